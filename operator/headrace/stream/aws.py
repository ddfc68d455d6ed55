"""Clients of AWS services: endpoints, credentials, time-outs, and what their errors mean."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.credentials import (
    AioAssumeRoleCredentialFetcher,
    AioDeferredRefreshableCredentials,
)
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession, get_session
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.loaders import create_loader
from botocore.parsers import ResponseParserError

from headrace import __version__
from headrace.errors import Reason
from headrace.stream.answers import RecordsParserFactory
from headrace.stream.endpoints import remember_endpoints

if TYPE_CHECKING:
    from collections.abc import Mapping

MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError)
"""What botocore's parser, and ours, raise on an answer that is not in the service's form, and for a bad endpoint.

RuntimeError is what a time beyond any year raises, and (as RecursionError) an answer nested too deeply.
"""
FAILURES = (
    BotoCoreError,
    ClientError,
    ResponseParserError,
    aiohttp.ClientError,
    TimeoutError,
    ConnectionError,
    *MALFORMED,
)
"""Everything a call to AWS may raise."""

CONNECT_TIMEOUT = 5.0
ANSWER_LIMIT = 32 * 1024 * 1024
"""The largest answer that is read, in bytes: GetRecords gives at most 10 MB, a third more in base64."""

_NOT_FOUND = frozenset(
    {
        "ResourceNotFoundException",
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
        "NotFound",
        "NoSuchBucket",
        "404",  # S3 answers HEAD requests without a body: the status is all the code there is
    }
)
_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "OptInRequired",
        "KMSAccessDenied",
        "KMSAccessDeniedException",
        "KmsAccessDenied",
    }
)
_BAD_CREDENTIALS = frozenset(
    {
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "ExpiredToken",
        "ExpiredTokenException",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "IncompleteSignature",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "InvalidAccessKeyId",
        "NotAuthorized",
    }
)
_THROTTLES = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "LimitExceededException",
        "KMSThrottling",
        "KMSThrottlingException",
        "KmsThrottled",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "SlowDown",
    }
)


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """What the command line and the environment say about AWS.

    `service_endpoints` holds AWS_ENDPOINT_URL_<SERVICE> by service name in lower case, `endpoint_url` is the command's
    own option. AWS_ENDPOINT_URL, profiles and the rest of the default chain stay botocore's business.
    """

    service_endpoints: Mapping[str, str] = field(default_factory=dict)
    endpoint_url: str | None = None

    def endpoint(self, service: str, mapping_endpoint: str | None) -> str | None:
        """A service's endpoint, strongest first: its own variable, the mapping's, the option; None: botocore's."""
        return self.service_endpoints.get(service) or mapping_endpoint or self.endpoint_url


_LOADER = create_loader()
"""One for the process: the services' models are large, and the same for every mapping."""
_PARSERS = RecordsParserFactory()


def _session() -> AioSession:
    session = get_session()
    session.register_component("data_loader", _LOADER)
    session.register_component("response_parser_factory", _PARSERS)
    return session


class _Bounded(AIOHTTPSession):
    """Reads no more of an answer than ANSWER_LIMIT, whoever stands in for AWS."""

    async def send(self, request: Any) -> Any:
        streamed, request.stream_output = request.stream_output, True
        answer = await super().send(request)
        if not streamed:
            answer._content = await _bounded(answer.raw)  # noqa: SLF001 - where `content` looks first
        return answer


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    chunks, size = [], 0
    try:
        async for chunk in answer.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > ANSWER_LIMIT:
                raise ResponseParserError("the answer is too large")  # noqa: TRY301 - it closes like every other failure
    except BaseException:
        answer.close()  # given up half-way, also by a time-out: the connection is of no more use
        raise
    return b"".join(chunks)


@dataclass(frozen=True, slots=True)
class AwsAccess:
    """How one mapping reaches AWS."""

    settings: AwsSettings
    endpoint_url: str | None = None
    role_arn: str | None = None

    async def client(self, service: str, region: str, stack: AsyncExitStack, *, read_timeout: float) -> Any:
        """A client without retries of its own (the callers pace and back off), closed with `stack`."""
        session = _session()
        if self.role_arn is not None:
            session = await self._assumed(session, region, self.role_arn)
        endpoint = self.settings.endpoint(service, self.endpoint_url)
        config = AioConfig(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=read_timeout,
            retries={"total_max_attempts": 1, "mode": "standard"},
            tcp_keepalive=True,
            max_pool_connections=256,
            user_agent=f"headrace/{__version__}",  # botocore puts its own together anew for every request
            parameter_validation=False,  # what is sent is ours, and the service looks at it too
            http_session_cls=_Bounded,
            s3={"addressing_style": "path"} if endpoint or _configured_endpoint(session, service) else None,
        )
        creation = session.create_client(service, region_name=region, endpoint_url=endpoint, config=config)
        client = await stack.enter_async_context(creation)
        remember_endpoints(service, client)
        return client

    async def _assumed(self, own: AioSession, region: str, role_arn: str) -> AioSession:
        """A session with the role's credentials, fetched on first use and renewed before they end."""
        credentials = await own.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        endpoint = self.settings.endpoint("sts", self.endpoint_url)

        def create_client(service: str, **arguments: Any) -> Any:
            return own.create_client(service, **{**arguments, "region_name": region, "endpoint_url": endpoint})

        fetcher = AioAssumeRoleCredentialFetcher(
            client_creator=create_client,
            source_credentials=credentials,
            role_arn=role_arn,
            extra_args={"RoleSessionName": "headrace"},
        )
        assumed = _session()
        assumed.register_component("credential_provider", _Assumed(fetcher))
        return assumed


def _configured_endpoint(session: AioSession, service: str) -> str | None:
    """What AWS_ENDPOINT_URL or a profile says: an S3 that is not AWS's seldom has a name for every bucket."""
    provider = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), service)
    endpoint: str | None = provider.provide()
    return endpoint


@dataclass(frozen=True, slots=True)
class _Assumed:
    """The credential provider of a session that works under a role."""

    fetcher: AioAssumeRoleCredentialFetcher

    async def load_credentials(self) -> AioDeferredRefreshableCredentials:
        return AioDeferredRefreshableCredentials(method="assume-role", refresh_using=self.fetcher.fetch_credentials)


def reason_of(error: BaseException) -> tuple[Reason, str]:
    """What an error of a call means: a reason, and a few words with AWS's own code. Judged by codes, never by texts."""
    if isinstance(error, ClientError):
        return _reason_of_answer(error)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return Reason.INVALID_CREDENTIALS, "no AWS credentials were found"
    if isinstance(error, CredentialRetrievalError | TokenRetrievalError):
        return Reason.INVALID_CREDENTIALS, "AWS credentials could not be fetched"
    unreachable = BotoConnectionError | HTTPClientError | aiohttp.ClientError | TimeoutError | ConnectionError
    if isinstance(error, unreachable):
        return Reason.UNREACHABLE, type(error).__name__
    return Reason.SERVICE_ERROR, type(error).__name__


def _reason_of_answer(error: ClientError) -> tuple[Reason, str]:
    code = str(error.response.get("Error", {}).get("Code", "")).rpartition("#")[2]
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    words = f"{code} (HTTP {status})" if code and code != str(status) else f"HTTP {status}"
    for codes, reason in (
        (_NOT_FOUND, Reason.NOT_FOUND),
        (_DENIED, Reason.ACCESS_DENIED),
        (_BAD_CREDENTIALS, Reason.INVALID_CREDENTIALS),
        (_THROTTLES, Reason.THROTTLED),
    ):
        if code in codes:
            return reason, words
    if status == 403:  # noqa: PLR2004
        return Reason.ACCESS_DENIED, words
    if status == 429:  # noqa: PLR2004
        return Reason.THROTTLED, words
    return (Reason.SERVICE_ERROR if status >= 500 else Reason.REJECTED), words  # noqa: PLR2004


@dataclass(slots=True, eq=False)
class _Made:
    """A client, how many calls are using it, and what closes it."""

    client: Any
    stack: AsyncExitStack
    users: int = 0


class Client:
    """One service's client, made at its first call, and anew once its credentials were refused: they may be mended."""

    def __init__(self, access: AwsAccess, service: str, region: str, *, read_timeout: float) -> None:
        self._access = access
        self._service = service
        self._region = region
        self._read_timeout = read_timeout
        self._making = asyncio.Lock()
        self._made: _Made | None = None

    async def open(self) -> _Made:
        """Makes the client unless it is there: mostly work of our own, a second of it where the processor is scarce."""
        async with self._making:
            if self._made is None:
                stack = AsyncExitStack()
                client = await self._access.client(self._service, self._region, stack, read_timeout=self._read_timeout)
                self._made = _Made(client, stack)
            return self._made

    async def call(self, operation: str, **arguments: Any) -> Any:
        """Calls an operation by its Python name; raises one of FAILURES."""
        made = self._made or await self.open()
        made.users += 1
        try:
            return await getattr(made.client, operation)(**arguments)
        except FAILURES as error:
            if reason_of(error)[0] is Reason.INVALID_CREDENTIALS and self._made is made:
                self._made = None
            raise
        finally:
            made.users -= 1
            if made is not self._made and not made.users:
                await made.stack.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        made, self._made = self._made, None
        if made is not None:
            await made.stack.aclose()
