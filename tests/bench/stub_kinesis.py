"""Kinesis in a process of its own that answers prepared bytes, so that it is not what is measured.

All shards of all streams show a part of the same prepared records: a shard's records are the first so many of them, and a
load shows more. Iterators, limits, `MillisBehindLatest` and errors are those of Kinesis; there is no throttling, and
shards neither split nor end. `tests/contract/test_bench_servers.py` holds its answers against kinesis-local's.

`POST /_bench/…` with JSON commands it; everything else is Kinesis's own API.

| request | body | effect and answer |
|---|---|---|
| `/_bench/stream` | `{"name", "shards", "records"}` | makes a stream with so many records in each shard |
| `/_bench/hold` | `{"name"}` | GetRecords is answered no more, until `release` |
| `/_bench/held` | `{"name", "shards"}` | answers once GetRecords of so many shards is held back |
| `/_bench/release` | `{"name", "records"}` | shows each shard so many more records, answers what was held back; `{"at": seconds}` |
| `/_bench/stats` | `{"name"}` | `{"requests": {operation: number}, "records": number, "bytes": number}` since the stream was made |

`at` is CLOCK_MONOTONIC in seconds, which all processes share.
"""

from __future__ import annotations

import base64
import bisect
import json
import random
import time
from argparse import ArgumentParser
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from tests.bench.wire import Connection, listen

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT, REGION = "123456789012", "eu-west-1"
FIRST_NUMBER = 49590338271490256608559692538361571095921575989136588898
DATA_BYTES = 1024
KEYS = 1000
"""Partition keys, of equal length, in turn."""
DIFFERENT = 509
"""Different data of records: a prime, so that data and keys do not go together."""
SPREAD = 600
"""Seconds over which the prepared records arrived, until the server started."""
STEP = 0.125
"""Arrival times are multiples of it, which a float holds exactly: kcl-rs cuts others off a millisecond too low."""
MOST_BYTES = 10 * 1024 * 1024
MOST_RECORDS = 10_000
ITERATOR_LIFE = 300.0
KIND = "application/x-amz-json-1.1"


class Refused(Exception):
    """An error of Kinesis: its code."""


@dataclass
class Prepared:
    """Records as they stand in an answer, one after the other with commas between."""

    text: memoryview
    ends: list[int]
    began: float
    size: int
    """Bytes of each record's data."""

    def piece(self, start: int, end: int) -> memoryview:
        """The records from `start` up to `end`, without commas around."""
        return self.text[self.ends[start - 1] + 1 if start else 0 : self.ends[end - 1]]

    def arrival(self, index: int) -> float:
        return self.began + STEP * (index * SPREAD // (len(self.ends) * STEP))

    def before(self, timestamp: float) -> int:
        """How many records arrived before a time."""
        return bisect.bisect_left(range(len(self.ends)), timestamp, key=self.arrival)


def document(number: int, size: int) -> bytes:
    opening, closing = f'{{"number": {number}, "text": "'.encode(), b'"}'
    room = size - len(opening) - len(closing)
    return opening + base64.b64encode(random.Random(number).randbytes(room))[:room] + closing


def prepare(records: int, size: int = DATA_BYTES) -> Prepared:
    """JSON documents of so many bytes, little compressible, the same at every start."""
    data = [base64.b64encode(document(number, size)).decode() for number in range(min(records, DIFFERENT))]
    prepared = Prepared(memoryview(b""), [0] * records, float(int(time.time()) - SPREAD), size)
    text = bytearray()
    for index in range(records):
        text += (
            f'{{"SequenceNumber":"{FIRST_NUMBER + index}","ApproximateArrivalTimestamp":{prepared.arrival(index):.3f},'
            f'"Data":"{data[index % DIFFERENT]}","PartitionKey":"key-{index % KEYS:04}","EncryptionType":"NONE"}},'
        ).encode()
        prepared.ends[index] = len(text) - 1
    prepared.text = memoryview(text)
    return prepared


@dataclass
class Stream:
    """A stream: how many shards, how many records each of them shows, what is held back."""

    name: str
    shards: int
    records: int
    created: float
    holding: bool = False
    held: dict[str, Callable[[], None]] = field(default_factory=dict)
    watching: list[tuple[int, Api]] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    served: int = 0
    sent: int = 0

    @property
    def arn(self) -> str:
        return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{self.name}"

    def shard_ids(self) -> list[str]:
        return [f"shardId-{number:012}" for number in range(self.shards)]


def iterator(stream: Stream, shard_id: str, place: int) -> str:
    """Opaque, and about as long as Kinesis's are."""
    text = json.dumps([stream.name, shard_id, place, time.time()])
    return base64.b64encode(text.ljust(165).encode()).decode()


class Api(Connection):
    """One connection to it."""

    prepared: Prepared
    streams: dict[str, Stream]

    def __init__(self) -> None:
        super().__init__()
        self._body = bytearray()

    def received(self, buffer: bytearray, start: int, end: int) -> None:
        self._body += memoryview(buffer)[start:end]

    def respond(self) -> None:
        asked = json.loads(self._body or b"{}")
        self._body.clear()
        path = self.request.split(" ", 2)[1]
        if path.startswith("/_bench/"):
            self._command(path.removeprefix("/_bench/"), asked)
            return
        if "authorization" not in self.headers:
            self._refuse("MissingAuthenticationTokenException")
            return
        operation = self.headers.get("x-amz-target", "").rpartition(".")[2]
        try:
            if operation == "GetRecords":
                self._get_records(asked)
            else:
                self._reply(self._described(operation, asked))
        except Refused as refused:
            self._refuse(str(refused))

    # ---- Kinesis

    def _described(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        stream = self._stream(asked)
        stream.requests[operation] += 1
        match operation:
            case "ListShards":
                return {"Shards": [self._shard(stream, number) for number in range(stream.shards)]}
            case "DescribeStream":
                shards = [self._shard(stream, number) for number in range(stream.shards)]
                summary = self._summary(stream)
                del summary["OpenShardCount"], summary["ConsumerCount"]
                return {"StreamDescription": summary | {"Shards": shards, "HasMoreShards": False}}
            case "DescribeStreamSummary":
                return {"StreamDescriptionSummary": self._summary(stream)}
            case "GetShardIterator":
                if asked["ShardId"] not in stream.shard_ids():
                    raise Refused("ResourceNotFoundException")
                return {"ShardIterator": iterator(stream, asked["ShardId"], self._place(stream, asked))}
        raise Refused("UnknownOperationException")

    def _stream(self, asked: dict[str, Any]) -> Stream:
        name = asked.get("StreamName") or str(asked.get("StreamARN", "")).rpartition("/")[2]
        if name not in self.streams:
            raise Refused("ResourceNotFoundException")
        return self.streams[name]

    def _shard(self, stream: Stream, number: int) -> dict[str, Any]:
        width = 2**128 // stream.shards
        last = 2**128 if number == stream.shards - 1 else width * (number + 1)
        return {
            "ShardId": f"shardId-{number:012}",
            "HashKeyRange": {"StartingHashKey": str(width * number), "EndingHashKey": str(last - 1)},
            "SequenceNumberRange": {"StartingSequenceNumber": str(FIRST_NUMBER - 1)},
        }

    def _summary(self, stream: Stream) -> dict[str, Any]:
        return {
            "StreamName": stream.name,
            "StreamARN": stream.arn,
            "StreamStatus": "ACTIVE",
            "StreamModeDetails": {"StreamMode": "PROVISIONED"},
            "RetentionPeriodHours": 24,
            "StreamCreationTimestamp": stream.created,
            "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
            "EncryptionType": "NONE",
            "OpenShardCount": stream.shards,
            "ConsumerCount": 0,
        }

    def _place(self, stream: Stream, asked: dict[str, Any]) -> int:
        match asked["ShardIteratorType"]:
            case "TRIM_HORIZON":
                return 0
            case "LATEST":
                return stream.records
            case "AT_SEQUENCE_NUMBER":
                return max(0, int(asked["StartingSequenceNumber"]) - FIRST_NUMBER)
            case "AFTER_SEQUENCE_NUMBER":
                return max(0, int(asked["StartingSequenceNumber"]) - FIRST_NUMBER + 1)
            case "AT_TIMESTAMP":
                return min(stream.records, self.prepared.before(float(asked["Timestamp"])))
        raise Refused("InvalidArgumentException")

    def _get_records(self, asked: dict[str, Any]) -> None:
        try:
            name, shard_id, place, made = json.loads(base64.b64decode(asked["ShardIterator"]))
            stream = self.streams[name]
        except (ValueError, KeyError):
            raise Refused("InvalidArgumentException") from None
        if time.time() - made > ITERATOR_LIFE:
            raise Refused("ExpiredIteratorException")
        stream.requests["GetRecords"] += 1
        limit = min(
            asked.get("Limit") or MOST_RECORDS, MOST_RECORDS, MOST_BYTES // (self.prepared.size + len("key-0000"))
        )

        def send() -> None:
            self._send_records(stream, shard_id, place, limit)

        if stream.holding:
            stream.held[shard_id] = send
            self._tell_held(stream)
        else:
            send()

    def _send_records(self, stream: Stream, shard_id: str, place: int, limit: int) -> None:
        end = max(place, min(place + limit, stream.records))
        behind = 0
        if end < stream.records:
            behind = max(1, int((time.time() - self.prepared.arrival(max(0, end - 1))) * 1000))
        following = iterator(stream, shard_id, end)
        opening = b'{"Records":['
        closing = f'],"NextShardIterator":"{following}","MillisBehindLatest":{behind}}}'.encode()
        piece = self.prepared.piece(place, end) if end > place else memoryview(b"")
        stream.served += end - place
        stream.sent += len(piece)
        self.transport.write(self._head("200 OK", len(opening) + len(piece) + len(closing)) + opening)
        self.transport.write(piece)
        self.transport.write(closing)

    def _refuse(self, code: str) -> None:
        self._reply({"__type": code, "message": "refused by the stub"}, "400 Bad Request")

    def _reply(self, body: dict[str, Any], status: str = "200 OK") -> None:
        text = json.dumps(body, separators=(",", ":")).encode()
        self.transport.write(self._head(status, len(text)) + text)

    def _head(self, status: str, length: int) -> bytes:
        return (
            f"HTTP/1.1 {status}\r\nx-amzn-RequestId: 0c7f7a1e-0000-4000-8000-000000000000\r\nDate: {formatdate(usegmt=True)}\r\n"
            f"Content-Type: {KIND}\r\nContent-Length: {length}\r\n\r\n"
        ).encode("latin-1")

    # ---- commands

    def _command(self, name: str, asked: dict[str, Any]) -> None:
        if name == "stream":
            made = Stream(asked["name"], asked["shards"], asked["records"], self.prepared.began - 1)
            self.streams[made.name] = made
            self._say({"arn": made.arn})
            return
        stream = self.streams[asked["name"]]
        match name:
            case "hold":
                stream.holding = True
                self._say({})
            case "held":
                stream.watching.append((asked["shards"], self))
                self._tell_held(stream)
            case "release":
                stream.records = min(len(self.prepared.ends), stream.records + asked["records"])
                stream.holding = False
                held, stream.held = stream.held, {}
                self._say({"at": time.monotonic()})
                for send in held.values():
                    send()
            case "stats":
                self._say({"requests": stream.requests, "records": stream.served, "bytes": stream.sent})

    def _tell_held(self, stream: Stream) -> None:
        for shards, asker in stream.watching[:]:
            if len(stream.held) >= shards:
                stream.watching.remove((shards, asker))
                asker._say({})

    def _say(self, body: dict[str, Any]) -> None:
        if not self.transport.is_closing():
            self.answer(json.dumps(body).encode())


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, required=True, help="records that one shard may show at most")
    parser.add_argument("--bytes", type=int, default=DATA_BYTES, help="of a record's data")
    options = parser.parse_args()
    Api.prepared, Api.streams = prepare(options.records, options.bytes), {}
    listen(Api)


if __name__ == "__main__":
    main()
