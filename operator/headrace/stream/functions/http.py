"""A function behind HTTP: the POST that all protocols share (contract J, design).

Before this: `retry.py` said Invoke. After this: `classify.py`.
"""

from __future__ import annotations

import asyncio
import errno
import io
import time
from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakSet

import aiohttp
from yarl import URL

from headrace.stream.functions import Call, Fault, NoResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.tracing import Trace

RESPONSE_LIMIT = 6 * 1024 * 1024 + 100
"""The largest answer a function may give, in bytes (J.1)."""
GRACE = 1.0
"""Seconds beyond the function's own time-out before a call is given up, so that its own error can still arrive."""
CONNECT_TIMEOUT = 10.0
KEPT = 30.0
"""Seconds that a connection is kept for the next call."""
AT_ONCE = 256 * 1024
"""Bytes of a body that is handed over at once; a larger one goes in pieces, so that it holds up nobody."""
BROKEN = 256
"""Requests whose kept connection broke that are remembered, the newest."""


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """Where a function is and what every call tells it; `timeout` in seconds."""

    url: str
    timeout: float
    mapping_key: str
    mapping_uid: str
    headers: Mapping[str, str]
    content_type: str = "application/json"


@dataclass(slots=True)
class _Connection:
    """What became of one call's connection; the function's time runs from when there is one."""

    patience: asyncio.Timeout
    allowed: float
    open: bool = False
    reused: bool = False
    answered: bool = False

    def opened(self, *, reused: bool) -> None:
        self.open, self.reused = True, reused
        self.patience.reschedule(asyncio.get_running_loop().time() + self.allowed)


_OF_THIS_CALL: ContextVar[_Connection] = ContextVar("_OF_THIS_CALL")


class _Connector(aiohttp.TCPConnector):
    """Tells each call when it has a connection, and whether it was kept: aiohttp's tracing would do so at every step.

    Shards call side by side, each at most once at a time: they are the bound, not the pool.
    """

    def __init__(self, *, keep: bool) -> None:
        super().__init__(limit=0, keepalive_timeout=KEPT if keep else None, force_close=not keep)
        self._seen: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own signature
    ) -> aiohttp.connector.Connection:
        """A connection; the call that asks for it is known by the context."""
        connection = await super().connect(req, traces, timeout)
        if (protocol := connection.protocol) is not None:
            _OF_THIS_CALL.get().opened(reused=protocol in self._seen)
            self._seen.add(protocol)
        return connection


class HttpFunction:
    """Sends events with POST; connections are kept, calls are never repeated here."""

    def __init__(self, settings: FunctionSettings) -> None:
        self._settings = settings
        self._url = URL(settings.url, encoded=True)  # exactly as given: escapes and dots may be signed, or meant
        self._session = _session(_Connector(keep=True))
        self._unkept = _session(_Connector(keep=False))
        self._broken: deque[str] = deque(maxlen=BROKEN)
        """Requests whose kept connection broke: the next try must tell whether that was the request's doing."""

    async def invoke(self, call: Call) -> Response | NoResponse:
        """One POST; gives what came back or why nothing did."""
        allowed = self._settings.timeout + GRACE
        session = self._unkept if call.request_id in self._broken else self._session
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT) as patience:
                connection = _Connection(patience, allowed)
                _OF_THIS_CALL.set(connection)
                async with session.post(
                    self._url,
                    data=call.event if len(call.event) <= AT_ONCE else io.BytesIO(call.event),
                    headers=self._headers(call, time.time() + allowed),
                    allow_redirects=False,
                ) as answer:
                    connection.answered = True
                    return await _read(answer)
        except (TimeoutError, aiohttp.ClientError, ConnectionError, ValueError) as error:
            fault = _fault(error, connection, allowed)
            if fault.fault is Fault.NOT_CONNECTED and connection is not None and connection.reused:
                self._broken.append(call.request_id)
            return fault

    def _headers(self, call: Call, deadline: float) -> dict[str, str]:
        return {
            **self._settings.headers,
            "Content-Type": self._settings.content_type,
            "Headrace-Request-Id": call.request_id,
            "Headrace-Attempt": str(call.attempt),
            "Headrace-Mapping": self._settings.mapping_key,
            "Headrace-Mapping-Uid": self._settings.mapping_uid,
            "Headrace-Shard": call.shard_id,
            "Headrace-Deadline-Ms": str(int(deadline * 1000)),
        }

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._session.close()
        await self._unkept.close()


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        # A body cut short while compressed may come out empty, which would be a success.
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
    )


async def _read(answer: aiohttp.ClientResponse) -> Response | NoResponse:
    """The answer, unless it is larger than an answer may be: then reading stops there and the connection is closed."""
    body = bytearray()
    async for chunk in answer.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > RESPONSE_LIMIT:
            answer.close()
            return NoResponse(Fault.TOO_LARGE, "the response is over 6 MB")
    return Response(answer.status, {name.lower(): value for name, value in answer.headers.items()}, bytes(body))


def _fault(error: BaseException, connection: _Connection | None, allowed: float) -> NoResponse:
    """Whether the function may have run: a kept connection that breaks unanswered had gone stale, a new one not."""
    if connection is None or not connection.open:
        return NoResponse(Fault.NOT_CONNECTED, f"no connection: {_words(error)}")
    if isinstance(error, TimeoutError):
        return NoResponse(Fault.TIMED_OUT, f"no answer within {allowed:g} s")
    stale = connection.reused and not connection.answered and not isinstance(error, aiohttp.ClientResponseError)
    if stale:
        return NoResponse(Fault.NOT_CONNECTED, f"a kept connection had gone: {_words(error)}")
    return NoResponse(Fault.DROPPED, f"the connection broke before the answer was complete: {_words(error)}")


def _words(error: BaseException) -> str:
    """The error's kind, and the operating system's name for it; never its text, which may hold secrets."""
    number = getattr(error, "errno", None)
    name = errno.errorcode.get(number, "") if isinstance(number, int) else ""
    return f"{type(error).__name__} {name}".strip()
