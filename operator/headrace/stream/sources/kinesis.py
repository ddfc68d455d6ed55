"""Kinesis by GetRecords (contract B.1, D.1).

After this: `filtering.py` and `lanes.py`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from botocore.exceptions import ClientError

from headrace.errors import Reason, SourceError
from headrace.records import After, Gap, Polled, Position, Record, Shard, Start
from headrace.stream.answers import YEAR_10000, is_plain
from headrace.stream.aws import FAILURES, AwsAccess, Client
from headrace.stream.settings import MOST_READ
from headrace.stream.sources.asking import ADVICE, UNKNOWN, code_of, server_time, source_error, understanding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.records import Batch

READ_TIMEOUT = 30.0
"""Seconds for one answer, which may be 10 MB."""
ITERATOR_LIFE = 300.0
"""Seconds an iterator lives. A place held for longer may have been overtaken by the stream's retention."""
PROBES = 5
"""Reads in which a shard's oldest record is looked for: one may be empty although more follows."""

_ADVICE = {
    **ADVICE,
    Reason.ACCESS_DENIED: "allow kinesis:ListShards, DescribeStreamSummary, GetShardIterator and GetRecords on it",
}


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What every record's event tells of its mapping (contract D.1)."""

    stream_arn: str
    region: str
    invoke_identity_arn: str


class Kinesis:
    """A Kinesis data stream, read by polling."""

    def __init__(self, facts: RecordFacts, access: AwsAccess, *, read_limit: int) -> None:
        self._facts = facts
        self._read_limit = read_limit
        self._created: float | None = None
        self.retention: float | None = None
        self._client = Client(access, "kinesis", facts.region, read_timeout=READ_TIMEOUT)

    async def call(self, operation: str, **arguments: Any) -> Any:
        """One API call; everything that goes wrong becomes a SourceError, except an expired iterator."""
        try:
            async with asyncio.timeout(READ_TIMEOUT):  # the client's own time-out is that of each read
                return await self._client.call(operation, **arguments)
        except FAILURES as error:
            if code_of(error) == "ExpiredIteratorException":
                raise
            raise source_error(self._facts.stream_arn, error, _ADVICE) from error

    async def shards(self) -> Sequence[Shard]:
        """ListShards, page after page."""
        arguments: dict[str, Any] = {"StreamARN": self._facts.stream_arn}
        found: list[Shard] = []
        while True:
            answer = await self.call("list_shards", **arguments)
            with understanding(self._facts.stream_arn, "Kinesis"):
                found += [_shard(entry) for entry in answer["Shards"]]
            if not answer.get("NextToken"):
                return found
            arguments = {"NextToken": answer["NextToken"]}

    async def created(self) -> float | None:
        """StreamCreationTimestamp, of DescribeStreamSummary: 20 calls a second are allowed an account."""
        answer = await self.call("describe_stream_summary", StreamARN=self._facts.stream_arn)
        with understanding(self._facts.stream_arn, "Kinesis"):
            summary = answer["StreamDescriptionSummary"]
            made, hours = summary.get("StreamCreationTimestamp"), summary.get("RetentionPeriodHours")
            self._created = round(made.timestamp(), 3) if made is not None else None
            self.retention = hours * 3600.0 if hours is not None else None
        return self._created

    async def now(self) -> float:
        """The server's time."""
        before = time.time()
        answer = await self.call("describe_stream_summary", StreamARN=self._facts.stream_arn)
        with understanding(self._facts.stream_arn, "Kinesis"):
            return server_time(answer["ResponseMetadata"]["HTTPHeaders"].get("date"), before)

    def reader(self, shard_id: str, position: Position) -> KinesisReader:
        """A reader of one shard."""
        return KinesisReader(self, self._facts, shard_id, position, self._read_limit, self._created)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()


class KinesisReader:
    """Reads one shard; an iterator lives for five minutes and is renewed at the place reached.

    A place that the stream's retention has overtaken is given up for the oldest record there is (contract B.8). Kinesis
    does so without a word, so that the oldest record is looked at whenever a place was held for long.
    """

    def __init__(
        self,
        source: Kinesis,
        facts: RecordFacts,
        shard_id: str,
        position: Position,
        limit: int,
        created: float | None = None,
    ) -> None:
        self._source = source
        self._facts = facts
        self._shard_id = shard_id
        self._position = position
        self._limit = limit
        self._created = created
        self._iterator: str | None = None
        self._read_at = -ITERATOR_LIFE
        self._arrival: float | None = None
        self._skip_through: int | None = None
        self._gap: Gap | None = None
        self._doubtful = False

    async def read(self, most: int = MOST_READ) -> Polled:
        """One GetRecords."""
        limit = min(self._limit, most)
        if self._doubtful:
            await self._confirm()
        try:
            answer = await self._get_records(limit)
        except ClientError:
            self._iterator, self._doubtful = None, True
            await self._confirm()
            try:
                answer = await self._get_records(limit)
            except ClientError as error:
                self._iterator = None
                raise SourceError(Reason.REJECTED, f"{self._facts.stream_arn}: a fresh iterator had expired") from error
        with understanding(self._facts.stream_arn, "Kinesis"):
            records = to_records(answer["Records"], self._shard_id, self._facts, plain=is_plain(answer))
            behind = (answer.get("MillisBehindLatest") or 0) / 1000
            following = answer.get("NextShardIterator") or None
            children = tuple(_child(entry) for entry in answer.get("ChildShards") or ())
        self._iterator, self._read_at = following, time.monotonic()
        records = self._new(records)
        gap, self._gap = self._gap, None
        return Polled(records, behind, following is None, children, gap)

    def _new(self, records: Batch) -> Batch:
        """What lies behind the place reached; that is all, unless the source did not know the place any more."""
        if self._skip_through is not None:
            known = self._skip_through
            records = tuple(record for record in records if int(record.sequence_number) > known)
        if records:
            self._position, self._arrival = After(records[-1].sequence_number), records[-1].arrival
            self._skip_through = None
        return records

    async def _get_records(self, limit: int) -> Any:
        """Raises ClientError only for an expired iterator; any other refusal makes the next read ask for a new one."""
        if self._iterator is None:
            await self._open()
        try:
            return await self._records_from(self._iterator, limit)
        except SourceError as error:
            if error.reason in UNKNOWN:
                self._iterator, self._doubtful = None, True
            raise

    async def _open(self) -> None:
        """An iterator at the place reached, or at the oldest record where the source does not know that place."""
        position, self._skip_through = self._position, None
        if not isinstance(position, After):
            self._iterator = await self._iterator_at(position)
            return
        if time.monotonic() - self._read_at >= ITERATOR_LIFE and await self._overtaken(position):
            await self._open_at_oldest(position)
            return
        try:
            self._iterator = await self._iterator_at(position)
        except SourceError as error:
            if error.reason not in UNKNOWN:
                raise
            await self._confirm()
            await self._open_at_oldest(position)

    async def _open_at_oldest(self, position: After) -> None:
        """Asked for by name: not every stand-in for Kinesis takes a number that is gone for the oldest record."""
        self._iterator = await self._iterator_at(Start())
        self._skip_through = int(position.sequence_number)

    async def _overtaken(self, position: After) -> bool:
        """Whether the oldest record there is lies behind the place, so that others may have been let go before it."""
        oldest = await self._oldest()
        if oldest is None or int(oldest.sequence_number) <= int(position.sequence_number):
            return False
        self._gap = Gap(position.sequence_number, oldest.sequence_number, self._arrival, oldest.arrival)
        return True

    async def _oldest(self) -> Record | None:
        """The shard's oldest record, None when it shows none."""
        iterator: str | None = await self._iterator_at(Start())
        for _ in range(PROBES):
            answer = await self._records_from(iterator, 1)
            with understanding(self._facts.stream_arn, "Kinesis"):
                if answer["Records"]:
                    return to_records(answer["Records"][:1], self._shard_id, self._facts)[0]
                iterator = answer.get("NextShardIterator")
            if not iterator or not answer.get("MillisBehindLatest"):
                return None
        return None

    async def _confirm(self) -> None:
        """Raises SourceError unless the stream is still the one whose place this is."""
        if self._created is not None and await self._source.created() != self._created:
            sentence = f"{self._facts.stream_arn}: it was deleted and made anew"
            raise SourceError(Reason.NOT_FOUND, sentence)
        self._doubtful = False

    async def _iterator_at(self, position: Position) -> str:
        where = iterator_arguments(position)
        answer = await self._source.call(
            "get_shard_iterator", ShardId=self._shard_id, StreamARN=self._facts.stream_arn, **where
        )
        with understanding(self._facts.stream_arn, "Kinesis"):
            return str(answer["ShardIterator"])

    async def _records_from(self, iterator: str | None, limit: int) -> Any:
        return await self._source.call(
            "get_records", ShardIterator=iterator, Limit=limit, StreamARN=self._facts.stream_arn
        )


def iterator_arguments(position: Position) -> dict[str, Any]:
    """How GetShardIterator is asked for a position."""
    match position:
        case After(sequence_number):
            return {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": sequence_number}
        case Start(None):
            return {"ShardIteratorType": "TRIM_HORIZON"}
        case Start(timestamp):
            return {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": datetime.fromtimestamp(timestamp or 0.0, UTC)}


def to_records(
    entries: Iterable[Mapping[str, Any]], shard_id: str, facts: RecordFacts, *, plain: bool = False
) -> Batch:
    """The records of a GetRecords answer, which is raw JSON, as they stand in the Lambda event (contract D.1).

    `plain` says that no text of theirs has anything that JSON escapes. Raises one of MALFORMED for what is no record;
    whether the data are good base64 is left to whoever decodes them.
    """
    dumps, join, new = orjson.dumps, b"".join, tuple.__new__
    records = []
    numbered, carrying, arrived = b',"sequenceNumber":"', b'","data":"', b'","approximateArrivalTimestamp":'
    before = b'{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":'
    between = b'},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":' + dumps(f"{shard_id}:")[:-1]
    after = b'","eventName":"aws:kinesis:record",' + dumps(_constants(facts))[1:]
    for entry in entries:
        number, key, data = entry["SequenceNumber"], entry["PartitionKey"], entry["Data"]
        arrival, digits = round(float(entry["ApproximateArrivalTimestamp"]), 3), number.encode()
        if not (digits.isdigit() and isinstance(key, str) and isinstance(data, str) and 0 <= arrival < YEAR_10000):
            raise ValueError("not a record")
        # Pieces of JSON instead of one dict, and a tuple made without Record's own call: two thirds of the work.
        # orjson takes eight times as much memory for a text as that is long.
        text = data.encode() if plain else dumps(data)[1:-1]
        pieces = before, dumps(key), numbered, digits, carrying, text, arrived, dumps(arrival), between, digits, after
        records.append(new(Record, (number, arrival, key, join(pieces))))
    return tuple(records)


def _constants(facts: RecordFacts) -> dict[str, str]:
    return {
        "invokeIdentityArn": facts.invoke_identity_arn,
        "awsRegion": facts.region,
        "eventSourceARN": facts.stream_arn,
    }


def _shard(entry: Mapping[str, Any]) -> Shard:
    parents = (entry.get("ParentShardId"), entry.get("AdjacentParentShardId"))
    return Shard(entry["ShardId"], tuple(parent for parent in parents if parent))


def _child(entry: Mapping[str, Any]) -> Shard:
    return Shard(entry["ShardId"], tuple(entry.get("ParentShards") or ()))
