"""A function that answers garbage, over real sockets: what each answer counts as (contract J.4), in bounded memory.

One row is an answer as it stands on the wire and what it means under each protocol; after every one the next call is
answered as if nothing had been.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
import pytest

from headrace.stream.classify import Failed, FailureKind, NotInvoked, Outcome, PartiallyFailed, Succeeded, classify
from headrace.stream.functions import Call
from headrace.stream.functions.http import RESPONSE_LIMIT, FunctionSettings, HttpFunction

IDS = ["7", "8", "9"]
CALL = Call(b'{"Records":[]}', "request-1", 1, "shardId-000000000000")
CONTENT_TYPES = {
    "lambda": "application/json",
    "http": "application/json",
    "cloudevents": "application/cloudevents-batch+json",
}
PROTOCOLS = sorted(CONTENT_TYPES)
SPARE = 8 * 1024 * 1024
"""What may lie in the buffers of both sockets beside what was read, in bytes."""
ERROR, INVALID, SUCCESS, NOT_RUN = "function error", "invalid response", "success", "not invoked"
Said = bytes | Callable[[], AsyncIterator[bytes]]


@dataclass
class Garbage:
    """Says one thing to every first call of a connection; counts what the other side took."""

    said: Said
    url: str = ""
    sent: int = 0
    calls: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            self.calls += 1
            if isinstance(self.said, bytes):
                await self._write(writer, self.said)
            else:
                async for piece in self.said():
                    await self._write(writer, piece)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _write(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        writer.write(piece)
        await writer.drain()
        self.sent += len(piece)


@asynccontextmanager
async def saying(said: Said) -> AsyncIterator[Garbage]:
    garbage = Garbage(said)
    server = await asyncio.start_server(garbage.serve, "127.0.0.1", 0)
    async with server:
        garbage.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield garbage


async def outcome_of(
    garbage: Garbage, protocol: str, *, timeout: float = 10.0, report_failures: bool = True, wants_state: bool = False
) -> Outcome:
    """What the answer counts as; the same client then makes a good call, to show that nothing is stuck."""
    settings = FunctionSettings(garbage.url, timeout, "shop/orders", "uid-1", {}, CONTENT_TYPES[protocol])
    function = HttpFunction(settings)
    try:
        async with asyncio.timeout(30):
            answer = await function.invoke(CALL)
            outcome = classify(
                answer,
                IDS,
                lambda_protocol=protocol == "lambda",
                report_failures=report_failures,
                wants_state=wants_state,
            )
            garbage.said = reply(b"{}")
            after = await function.invoke(CALL)
        assert classify(after, IDS, lambda_protocol=True, report_failures=True, wants_state=False) == Succeeded()
    finally:
        await function.aclose()
    return outcome


def kind_of(outcome: Outcome) -> str:
    match outcome:
        case Failed(kind=FailureKind.FUNCTION_ERROR):
            assert outcome.function_error == "Unhandled"
            return ERROR
        case Failed(kind=FailureKind.INVALID_RESPONSE):
            assert outcome.function_error is None
            return INVALID
        case Succeeded():
            return SUCCESS
        case NotInvoked(throttled=False):
            return NOT_RUN
    return repr(outcome)


def reply(body: bytes, *headers: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    lines = (f"HTTP/{version} {status}", f"Content-Length: {len(body)}", "Connection: close", *headers)
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n", head: str = "") -> bytes:
    said = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n{head}\r\n".encode()
    return said + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


FAILURES = b'{"batchItemFailures":[{"itemIdentifier":"8"}]}'
NOT_JSON = {"lambda": ERROR, "http": INVALID, "cloudevents": INVALID}
"""A body that is not JSON: the emulator tells time-outs so, elsewhere it is no valid response (J.2, B.6)."""
ROWS: dict[str, tuple[Said, str | dict[str, str]]] = {
    # Bodies
    "text": (reply(b"fine"), NOT_JSON),
    "html": (reply(b"<html><body>It works!</body></html>", "Content-Type: text/html"), NOT_JSON),
    "half JSON": (reply(FAILURES[:-1]), NOT_JSON),
    "two values": (reply(b"{} {}"), NOT_JSON),
    "NUL bytes": (reply(b"\0" * 1000), NOT_JSON),
    "invalid UTF-8": (reply(b'{"batchItemFailures":"\xff\xfe"}'), NOT_JSON),
    "UTF-16": (reply("{}".encode("utf-16")), NOT_JSON),
    "byte order mark": (reply(b"\xef\xbb\xbf{}"), NOT_JSON),
    "lone surrogate": (reply(b'{"errorType":"\\ud800","errorMessage":"x"}'), NOT_JSON),
    "NaN": (reply(b"NaN"), NOT_JSON),
    "100,000 brackets": (reply(b"[" * 100_000), NOT_JSON),
    "100,000 brackets and back": (reply(b"[" * 100_000 + b"]" * 100_000), NOT_JSON),
    "100,000 objects": (reply(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), NOT_JSON),
    "1,000 brackets": (reply(b"[" * 1_000 + b"]" * 1_000), INVALID),
    "a huge number": (reply(b"1" * 100_000), NOT_JSON),
    "a number beyond any": (reply(b'{"batchItemFailures":1e999999}'), NOT_JSON),
    "a bare number": (reply(b"1"), INVALID),
    "true": (reply(b"true"), INVALID),
    "duplicate keys, the last is empty": (reply(b'{"batchItemFailures":[{"itemIdentifier":"x"}],"batchItemFailures":[]}'), SUCCESS),
    "100,000 strange failures": (
        reply(orjson.dumps({"batchItemFailures": [{"itemIdentifier": str(n)} for n in range(100_000)]})),
        INVALID,
    ),
    "failures in a number": (reply(b'{"batchItemFailures":7}'), INVALID),
    "failures in a text": (reply(b'{"batchItemFailures":"8"}'), INVALID),
    "failures in an object": (reply(b'{"batchItemFailures":{"itemIdentifier":"8"}}'), INVALID),
    "failures that are lists": (reply(b'{"batchItemFailures":[["8"]]}'), INVALID),
    "failures that are null": (reply(b'{"batchItemFailures":[null]}'), INVALID),
    "an identifier that is a list": (reply(b'{"batchItemFailures":[{"itemIdentifier":["8"]}]}'), INVALID),
    "an identifier that is an object": (reply(b'{"batchItemFailures":[{"itemIdentifier":{}}]}'), INVALID),
    "an identifier that is a number": (reply(b'{"batchItemFailures":[{"itemIdentifier":8}]}'), INVALID),
    "an identifier with a NUL": (reply(b'{"batchItemFailures":[{"itemIdentifier":"8\\u0000"}]}'), INVALID),
    # Content types say nothing: neither Lambda nor its emulator cares
    "JSON as HTML": (reply(b"{}", "Content-Type: text/html"), SUCCESS),
    "JSON of no type": (reply(b"{}", "Content-Type: ;;;"), SUCCESS),
    "JSON of an unknown charset": (reply(b"{}", "Content-Type: application/json; charset=klingon"), SUCCESS),
    # Encodings: none is asked for, none is undone
    "gzip": (reply(gzip.compress(b"{}"), "Content-Encoding: gzip"), NOT_JSON),
    "gzip that is none": (reply(b"{}", "Content-Encoding: gzip"), SUCCESS),
    "half gzip": (reply(gzip.compress(FAILURES * 100)[:20], "Content-Encoding: gzip"), NOT_JSON),
    "deflate": (reply(zlib.compress(FAILURES), "Content-Encoding: deflate"), NOT_JSON),
    "a gzip bomb": (reply(gzip.compress(bytes(2**25)), "Content-Encoding: gzip"), NOT_JSON),
    "an encoding that nobody knows": (reply(b"{}", "Content-Encoding: rot13"), SUCCESS),
    # Ways to break off
    "nothing": (b"", ERROR),
    "one byte": (b"H", ERROR),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Le", ERROR),
    "half a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", ERROR),
    "half a chunk": (chunked(end=b"64\r\n{}"), ERROR),
    "no last chunk": (chunked(b"{}", end=b""), ERROR),
    "a chunk of no size": (chunked(end=b"zz\r\n{}\r\n"), ERROR),
    "a chunk of a negative size": (chunked(end=b"-5\r\n{}\r\n"), ERROR),
    "a chunk of an absurd size": (chunked(end=b"f" * 40 + b"\r\n{}\r\n"), ERROR),
    # Not HTTP, or barely
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n", ERROR),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x46", ERROR),
    "a status that is no number": (b"HTTP/1.1 abc OK\r\n\r\n", ERROR),
    "a status of five digits": (b"HTTP/1.1 20000 OK\r\nContent-Length: 0\r\n\r\n", ERROR),
    "a version that is none": (b"HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\n{}", ERROR),
    "a header without a name": (reply(b"{}", ": value"), ERROR),
    "a header with a NUL": (reply(b"{}", "X-A: a\0b"), ERROR),
    "a header of 1 MB": (reply(b"{}", "X-A: " + "a" * 1_000_000), ERROR),
    "100,000 headers": (reply(b"{}", *(f"X-{n}: {n}" for n in range(100_000))), ERROR),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", ERROR),
    "a length that is no number": (b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}", ERROR),
    "a negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}", ERROR),
    # HTTP, though unusual
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n{}", SUCCESS),
    "HTTP/1.0 with nothing": (b"HTTP/1.0 200 OK\r\n\r\n", SUCCESS),
    "100, then an answer": (b"HTTP/1.1 100 Continue\r\n\r\n" + reply(b"{}"), SUCCESS),
    "103, then an answer": (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + reply(b"{}"), SUCCESS),
    "100, then nothing": (b"HTTP/1.1 100 Continue\r\n\r\n", ERROR),
    "101": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", {"lambda": NOT_RUN, "http": ERROR, "cloudevents": ERROR}),
    "204": (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", SUCCESS),
    "204 with a body": (reply(b"oops", status="204 No Content"), ERROR),
    "no chunks": (chunked(), SUCCESS),
    "blank body": (reply(b" \r\n\t "), SUCCESS),
    "a redirect": (reply(b"", "Location: /elsewhere", status="302 Found"), NOT_RUN),
    "a redirect to itself": (reply(b"", "Location: /", status="308 Permanent Redirect"), NOT_RUN),
    "a redirect to nowhere": (reply(b"", status="301 Moved Permanently"), NOT_RUN),
    "503 with a page": (reply(b"<html>" * 1000, status="503 Service Unavailable"), NOT_RUN),
    "599": (reply(b"", status="599 ?"), {"lambda": NOT_RUN, "http": ERROR, "cloudevents": ERROR}),
}  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("row", ROWS)
async def test_garbage_counts_as_the_contract_says_and_the_next_call_goes_on(row: str, protocol: str) -> None:
    said, expected = ROWS[row]
    async with saying(said) as garbage:
        outcome = await outcome_of(garbage, protocol)
    assert kind_of(outcome) == (expected if isinstance(expected, str) else expected[protocol])


def endless(head: bytes, piece: bytes) -> Said:
    async def said() -> AsyncIterator[bytes]:
        yield head
        while True:
            yield piece

    return said


MEGABYTE = 1024 * 1024
CHUNK = b"10000\r\n" + b"x" * 65536 + b"\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
ENDLESS: dict[str, tuple[Said, int]] = {
    "body in chunks": (endless(CHUNKED + b"\r\n", CHUNK), RESPONSE_LIMIT),
    "body without a length": (endless(b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 65536), RESPONSE_LIMIT),
    "body of a length beyond any": (
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999\r\n\r\n", b"x" * 65536),
        RESPONSE_LIMIT,
    ),
    "blank body": (endless(CHUNKED + b"\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"), RESPONSE_LIMIT),
    "trailer": (endless(CHUNKED + b"\r\n0\r\nX-A: ", b"x" * 65536), RESPONSE_LIMIT),
    "trailers": (endless(CHUNKED + b"\r\n0\r\n", b"X-A: b\r\n" * 8192), RESPONSE_LIMIT),
    "status line": (endless(b"HTTP/1.1 200 ", b"O" * 65536), MEGABYTE),
    "header": (endless(b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 65536), MEGABYTE),
    "headers": (endless(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 8192), MEGABYTE),
    "bytes that are no HTTP": (endless(b"", bytes(range(256)) * 256), MEGABYTE),
    "error page": (endless(b"HTTP/1.0 500 No\r\n\r\n", b"x" * 65536), RESPONSE_LIMIT),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("what", ENDLESS)
async def test_an_answer_without_end_is_cut_off_and_is_a_function_error(what: str, protocol: str) -> None:
    said, limit = ENDLESS[what]
    async with saying(said) as garbage:
        outcome = await outcome_of(garbage, protocol)
        assert garbage.sent <= limit + SPARE
    assert kind_of(outcome) == ERROR


def dripping(head: bytes, piece: bytes) -> Said:
    async def said() -> AsyncIterator[bytes]:
        yield head
        while True:
            yield piece
            await asyncio.sleep(0.02)

    return said


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (CHUNKED + b"\r\n", b"1\r\nx\r\n"),
        (CHUNKED, b"X-A: b\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 ", b"O"),
        (CHUNKED + b"\r\n2;a=", b"x" * 65536),  # read and forgotten, never kept
    ],
    ids=["body", "headers", "interim answers", "status line", "extension of a chunk"],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_answer_that_drips_has_timed_out(head: bytes, piece: bytes, protocol: str) -> None:
    async with saying(dripping(head, piece)) as garbage:
        began = asyncio.get_running_loop().time()
        outcome = await outcome_of(garbage, protocol, timeout=0.2)
        assert asyncio.get_running_loop().time() - began < 5
    assert kind_of(outcome) == ERROR


@pytest.mark.parametrize("size", [RESPONSE_LIMIT, RESPONSE_LIMIT + 1, 10_000_000])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_largest_answer_is_taken_and_a_larger_one_is_a_function_error(size: int, protocol: str) -> None:
    body = b'"' + b"x" * (size - 2) + b'"'
    async with saying(reply(body)) as garbage:
        outcome = await outcome_of(garbage, protocol)
    assert kind_of(outcome) == (INVALID if size == RESPONSE_LIMIT else ERROR)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_list_of_100_000_failures_takes_the_lowest(protocol: str) -> None:
    body = orjson.dumps({"batchItemFailures": [{"itemIdentifier": "9"}] * 100_000 + [{"itemIdentifier": "8"}]})
    async with saying(reply(body)) as garbage:
        assert await outcome_of(garbage, protocol) == PartiallyFailed(1, failures=frozenset({"8", "9"}))


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_state_nested_deeper_than_can_be_sent_back_is_none(protocol: str) -> None:
    """It is read to a depth of 1,024, written to one of 254."""
    state = b'{"a":' * 300 + b"1" + b"}" * 300
    async with saying(reply(b'{"state":' + state + b"}")) as garbage:
        outcome = await outcome_of(garbage, protocol, wants_state=True)
    assert isinstance(outcome, Failed)
    assert outcome.kind is FailureKind.MISSING_STATE


@pytest.mark.parametrize("value", [b"\xff\xfe", b"", b"a" * 8000], ids=["not UTF-8", "empty", "long"])
async def test_a_version_that_is_none_gets_into_no_failure_record(value: bytes) -> None:
    said = reply(b"{}").replace(
        b"\r\n\r\n", b"\r\nX-Amz-Function-Error: \xff\r\nX-Amz-Executed-Version: " + value + b"\r\n\r\n"
    )
    async with saying(said) as garbage:
        outcome = await outcome_of(garbage, "lambda")
    assert kind_of(outcome) == ERROR
    assert isinstance(outcome, Failed)
    assert outcome.executed_version == "$LATEST"
