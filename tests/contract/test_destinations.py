"""Every destination behind its Protocol: what it hands over, and what it says when it cannot (contract C.1, C.2, C.6)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web

from headrace.errors import DestinationError, Reason
from headrace.spec import parse_mapping
from headrace.stream.aws import AwsSettings
from headrace.stream.classify import Failed, FailureKind
from headrace.stream.destinations import Destination, client, open_destination
from headrace.stream.report import FailureRecord, Origin, failure_record
from headrace.stream.retry import Condition, Discard
from tests.support.answering import answering as serving
from tests.support.aws import client as aws_client
from tests.support.aws import unique
from tests.support.mappings import manifest
from tests.support.places import Bucket, Place, place
from tests.support.records import record as stream_record
from tests.support.records import records
from tests.support.servers import free_port

KINDS = ("sqs", "sns", "s3")
ADVICE = {
    "sqs": ("create the queue, or correct spec", "allow sqs:SendMessage and sqs:GetQueueUrl on it"),
    "sns": ("create the topic, or correct spec", "allow sns:Publish and sns:GetTopicAttributes on it"),
    "s3": ("create the bucket, or correct spec", "allow s3:PutObject and s3:ListBucket on it"),
}
ARNS = {
    "sqs": "arn:aws:sqs:us-east-1:000000000000:failed",
    "sns": "arn:aws:sns:us-east-1:000000000000:failed",
    "s3": "arn:aws:s3:::failed",
}
ORIGIN = Origin("arn:aws:lambda:us-east-1:000000000000:function:f", "arn:aws:kinesis:us-east-1:000000000000:stream/s", "shardId-1")  # fmt: skip
NAME = "0b1c2d3e-0000-5111-8222-333344445555"
FAILED = Failed(FailureKind.FUNCTION_ERROR, "Unhandled")


def failure(*numbers: int) -> FailureRecord:
    batch = records(*numbers)
    discard = Discard(batch, Condition.RETRY_ATTEMPTS_EXHAUSTED, 3, FAILED, batch, at=1573691886.021)
    return failure_record(ORIGIN, discard, "request-1", NAME)


@asynccontextmanager
async def opened(arn: str, url: str) -> AsyncIterator[Destination]:
    mapping = parse_mapping(manifest(destinationConfig={"onFailure": {"destination": arn}}, aws={"endpointUrl": url}))
    destination = open_destination(mapping, AwsSettings())
    assert destination is not None
    try:
        yield destination
    finally:
        await destination.aclose()


async def refusal(call: Awaitable[None]) -> DestinationError:
    with pytest.raises(DestinationError) as caught:
        await call
    return caught.value


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def absent(kind: str, ministack: str) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        yield await place(kind, ministack, stack)


@pytest.fixture
async def present(absent: Place) -> Place:
    await absent.create()
    return absent


async def test_the_document_arrives_as_it_was_written(present: Place, ministack: str) -> None:
    handed = failure(1, 2, 3)
    async with opened(present.arn, ministack) as destination:
        await destination.check()
        await destination.publish(handed)
    (document,) = await present.documents()
    payload = document.pop("payload", None)
    assert document == json.loads(handed.message())
    assert (payload is not None) == (present.kind == "s3"), "only S3 keeps what the records held"


async def test_every_record_is_one_document(present: Place, ministack: str) -> None:
    async with opened(present.arn, ministack) as destination:
        await destination.publish(failure(1, 2))
        await destination.publish(
            failure_record(
                ORIGIN,
                Discard(records(3), Condition.RECORD_AGE_EXCEEDED, 1, None, records(3), at=1573691890.0),
                "request-2",
                "0b1c2d3e-0000-5111-8222-333344446666",
            )
        )
    documents = await present.documents()
    assert sorted(document["requestContext"]["condition"] for document in documents) == [
        "RecordAgeExceeded",
        "RetryAttemptsExhausted",
    ]


async def test_what_is_missing_is_told_with_what_to_do(absent: Place, ministack: str) -> None:
    async with opened(absent.arn, ministack) as destination:
        for error in (await refusal(destination.check()), await refusal(destination.publish(failure(1)))):
            assert error.reason is Reason.NOT_FOUND
            assert error.message.startswith(f"{absent.arn}: ")
            assert ADVICE[absent.kind][0] in error.message


async def test_what_comes_into_being_later_is_used_without_a_restart(absent: Place, ministack: str) -> None:
    async with opened(absent.arn, ministack) as destination:
        await refusal(destination.publish(failure(1)))
        await absent.create()
        await destination.check()
        await destination.publish(failure(1))
    assert len(await absent.documents()) == 1


async def test_nobody_listening_is_unreachable(kind: str) -> None:
    async with opened(ARNS[kind], f"http://127.0.0.1:{free_port()}") as destination:
        for call in (destination.check(), destination.publish(failure(1))):
            error = await refusal(call)
            assert error.reason is Reason.UNREACHABLE
            assert "check the network and the endpoint" in error.message


async def test_missing_credentials_are_told_as_such(
    kind: str, ministack: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{tmp_path}/none")
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{tmp_path}/none")
    async with opened(ARNS[kind], ministack) as destination:
        error = await refusal(destination.check())
    assert error.reason is Reason.INVALID_CREDENTIALS


# What the emulator does not do: a server that answers as AWS does


def answer(kind: str, status: int, code: str) -> Callable[[web.Request], web.Response]:
    """An error in the service's own wire format; S3 answers HEAD without a body."""

    def respond(request: web.Request) -> web.Response:
        match kind:
            case "sqs":
                body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "no"})
                return web.Response(status=status, text=body, content_type="application/x-amz-json-1.0")
            case "sns":
                text = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
            case _:
                text = "" if request.method == "HEAD" else f"<Error><Code>{code}</Code><Message>no</Message></Error>"
        return web.Response(status=status, text=text, content_type="text/xml")

    return respond


@asynccontextmanager
async def answering(
    respond: Callable[[web.Request], web.StreamResponse | Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.StreamResponse:
        made = respond(request)
        return made if isinstance(made, web.StreamResponse) else await made

    async with serving(handle) as url:
        yield url


@pytest.mark.parametrize(
    ("kind", "status", "code", "reason"),
    [
        ("sqs", 400, "AccessDeniedException", Reason.ACCESS_DENIED),
        ("sqs", 400, "KmsAccessDenied", Reason.ACCESS_DENIED),
        ("sqs", 400, "RequestThrottled", Reason.THROTTLED),
        ("sqs", 500, "InternalFailure", Reason.SERVICE_ERROR),
        ("sns", 403, "AuthorizationError", Reason.ACCESS_DENIED),
        ("sns", 400, "KMSAccessDenied", Reason.ACCESS_DENIED),
        ("sns", 403, "InvalidClientTokenId", Reason.INVALID_CREDENTIALS),
        ("sns", 404, "NotFound", Reason.NOT_FOUND),
        ("sns", 400, "Throttling", Reason.THROTTLED),
        ("s3", 403, "AccessDenied", Reason.ACCESS_DENIED),
        ("s3", 404, "NoSuchBucket", Reason.NOT_FOUND),
        ("s3", 500, "InternalError", Reason.SERVICE_ERROR),
    ],
)
async def test_refusals_are_told_by_their_codes(kind: str, status: int, code: str, reason: Reason) -> None:
    async with answering(answer(kind, status, code)) as url, opened(ARNS[kind], url) as destination:
        for error in (await refusal(destination.check()), await refusal(destination.publish(failure(1)))):
            assert error.reason is reason
            if reason is Reason.ACCESS_DENIED:
                assert ADVICE[kind][1] in error.message


@pytest.mark.parametrize("trickle", [False, True], ids=["silence", "a byte now and then"])
async def test_an_answer_without_end_costs_a_bounded_time(
    kind: str, trickle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CALL_TIMEOUT", 1.5)
    hung_up = asyncio.Event()
    asked = 0

    async def never(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        endless = web.StreamResponse(headers={"Content-Length": "1000000"})
        if trickle:
            await endless.prepare(request)
        while not hung_up.is_set():
            if trickle:
                with contextlib.suppress(ConnectionError):
                    await endless.write(b" ")
            await asyncio.sleep(0.05)
        return endless

    async with answering(never) as url, opened(ARNS[kind], url) as destination:
        async with asyncio.timeout(10):
            error = await refusal(destination.publish(failure(1)))
        hung_up.set()
    assert error.reason is Reason.UNREACHABLE
    assert asked == 1


# S3 alone


async def test_an_object_lies_under_the_key_of_the_contract_with_the_event_as_a_string(ministack: str) -> None:
    async with aws_client("s3", ministack) as s3:
        bucket = Bucket(s3, unique("bucket"))
        await bucket.create()
        async with opened(bucket.arn, ministack) as destination:
            await destination.publish(failure(1, 2))
        (stored,) = await bucket.objects()
    uid = parse_mapping(manifest()).resolved_uid
    assert stored.key == f"aws/lambda/{uid}/shardId-1/2019/11/14/2019-11-14T00.38.06-{NAME}"
    assert stored.content_type == "application/octet-stream"
    assert stored.document["payload"] == '{"Records":[{"n":1},{"n":2}]}'


async def test_a_publish_that_is_repeated_makes_no_second_object(ministack: str) -> None:
    async with aws_client("s3", ministack) as s3:
        bucket = Bucket(s3, unique("bucket"))
        await bucket.create()
        async with opened(bucket.arn, ministack) as destination:
            await destination.publish(failure(1, 2))
            await destination.publish(failure(1, 2))
        assert len(await bucket.objects()) == 1


async def test_an_event_of_six_megabytes_fits_into_an_object(ministack: str) -> None:
    huge = stream_record(1, event=b'{"data":"' + b"x" * (6 * 1024 * 1024) + b'"}')
    discard = Discard((huge,), Condition.RETRY_ATTEMPTS_EXHAUSTED, 1, None, (huge,), at=0.0)
    async with aws_client("s3", ministack) as s3:
        bucket = Bucket(s3, unique("bucket"))
        await bucket.create()
        async with opened(bucket.arn, ministack) as destination:
            await destination.publish(failure_record(ORIGIN, discard, "request-1", NAME))
        (document,) = await bucket.documents()
    assert document["payload"] == '{"Records":[' + huge.event.decode() + "]}"


async def test_a_large_object_may_take_longer_than_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CALL_TIMEOUT", 0.3)

    async def slowly(request: web.Request) -> web.Response:
        await asyncio.sleep(0.8)
        await request.read()
        return web.Response(headers={"ETag": '"e"'})

    def holding(size: int) -> FailureRecord:
        batch = (stream_record(1, event=b'"' + b"x" * size + b'"'),)
        return failure_record(ORIGIN, Discard(batch, Condition.RECORD_AGE_EXCEEDED, 1, None, batch, at=0.0), "id", NAME)

    async with answering(slowly) as url, opened(ARNS["s3"], url) as destination:
        await destination.publish(holding(1024 * 1024))
        error = await refusal(destination.publish(holding(1)))
    assert error.reason is Reason.UNREACHABLE


async def test_a_bucket_in_another_region_is_followed_there() -> None:
    """An S3 ARN names no region; the mapping's is a guess that S3 corrects."""
    scopes: list[str] = []

    def elsewhere(request: web.Request) -> web.Response:
        scopes.append(request.headers["Authorization"].split("/")[2])
        if scopes[-1] == "ap-south-1":
            return web.Response(headers={"ETag": '"e"'})
        text = "" if request.method == "HEAD" else "<Error><Code>PermanentRedirect</Code></Error>"
        return web.Response(status=301, text=text, headers={"x-amz-bucket-region": "ap-south-1"})

    async with answering(elsewhere) as url, opened(ARNS["s3"], url) as destination:
        await destination.publish(failure(1))
        await destination.check()
    assert scopes == ["eu-west-1", "ap-south-1", "ap-south-1"]


async def test_a_region_of_an_emulators_own_is_taken(ministack: str) -> None:
    async with opened("arn:aws:sqs:elasticmq:000000000000:none", ministack) as destination:
        assert (await refusal(destination.check())).reason is Reason.NOT_FOUND


async def test_a_bucket_is_part_of_the_path_where_the_endpoint_is_not_amazons(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator or a store of one's own seldom has a host name for every bucket."""
    paths: list[str] = []

    def note(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response()

    async with answering(note) as url:
        address = url.replace("127.0.0.1", "localhost")
        async with opened(ARNS["s3"], address) as destination:
            await destination.check()
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        mapping = parse_mapping(manifest(destinationConfig={"onFailure": {"destination": ARNS["s3"]}}))
        destination_by_environment = open_destination(mapping, AwsSettings())
        assert destination_by_environment is not None
        try:
            await destination_by_environment.check()
        finally:
            await destination_by_environment.aclose()
    assert paths == ["/failed", "/failed"]


@pytest.mark.parametrize("body", ["", "{}", "[]", "<html>log in</html>", '"fine"'])
@pytest.mark.parametrize("kind", ["sqs", "sns", "s3"])
async def test_an_answer_that_confirms_nothing_is_no_delivery(kind: str, body: str) -> None:
    """A captive portal, a proxy, a wrong endpoint: 200, and nobody has the record."""
    async with answering(lambda _: web.Response(text=body)) as url, opened(ARNS[kind], url) as destination:
        error = await refusal(destination.publish(failure(1)))
    assert error.reason in {Reason.SERVICE_ERROR, Reason.REJECTED, Reason.UNREACHABLE}
