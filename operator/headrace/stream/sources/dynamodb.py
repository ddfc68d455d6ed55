"""DynamoDB Streams by GetRecords (contract B.1, D.2).

After this: `filtering.py` and `lanes.py`.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from botocore.exceptions import ClientError

from headrace.errors import Reason, SourceError
from headrace.records import After, Gap, Polled, Position, Record, Shard, Start
from headrace.stream.answers import YEAR_10000
from headrace.stream.aws import FAILURES, AwsAccess, Client
from headrace.stream.sources.asking import ADVICE, UNKNOWN, code_of, server_time, source_error, understanding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.records import Batch

READ_TIMEOUT = 30.0
"""Seconds for one answer, which may be 1 MB."""
MOST_READ = 1_000
"""Records that one GetRecords gives at most."""
RETENTION = 24 * 3600.0
"""Seconds that every stream keeps a record."""
FRESH = 5.0
"""Seconds since a record was written below which a short page is taken for the shard's tip: times are whole seconds."""
MARGIN = 60.0
"""Seconds by which a shard's first record must be older than the start for its parents to have ended before it."""
PROBES = 5
"""Reads in which a shard's oldest record is looked for: one may be empty although more follows."""
_EXPIRED, _TRIMMED = "ExpiredIteratorException", "TrimmedDataAccessException"
_LEAST_BEHIND = 0.001

_ADVICE = {
    **ADVICE,
    Reason.NOT_FOUND: "spec.eventSourceArn must be the table's LatestStreamArn, which is another one whenever the"
    " stream is enabled anew, and lie in the region that is asked (spec.aws.region)",
    Reason.ACCESS_DENIED: "allow dynamodb:DescribeStream, GetShardIterator and GetRecords on it",
}


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What every record's event tells of its stream (contract D.2)."""

    stream_arn: str
    region: str


class DynamoDBStream:
    """The stream of a DynamoDB table, read by polling.

    Its ARN holds the instant it was enabled at, so that a stream made anew is another one by its name alone.
    """

    retention: float | None = RETENTION

    def __init__(self, facts: StreamFacts, access: AwsAccess, *, read_limit: int = MOST_READ) -> None:
        self.facts = facts
        self._read_limit = min(read_limit, MOST_READ)
        self._client = Client(access, "dynamodbstreams", facts.region, read_timeout=READ_TIMEOUT)

    async def call(self, operation: str, **arguments: Any) -> Any:
        """One API call; what goes wrong becomes a SourceError, except a place that is gone: a ClientError."""
        try:
            async with asyncio.timeout(READ_TIMEOUT):  # the client's own time-out is that of each read
                return await self._client.call(operation, **arguments)
        except FAILURES as error:
            if code_of(error) in {_EXPIRED, _TRIMMED}:
                raise
            raise source_error(self.facts.stream_arn, error, _ADVICE) from error

    async def shards(self) -> Sequence[Shard]:
        """DescribeStream, page after page: those that are closed too, until their last record is let go."""
        return await self._described()

    async def children(self, shard_id: str) -> Sequence[Shard]:
        """The shards that go on from one; raises SourceError."""
        found = await self._described(ShardFilter={"Type": "CHILD_SHARDS", "ShardId": shard_id})
        return [shard for shard in found if shard_id in shard.parents]  # what ignores the filter lists them all

    async def oldest(self, shard_id: str) -> float | None:
        """When a shard's oldest record was written; None when it shows none. Raises SourceError."""
        iterator: str | None = await self.iterator(shard_id, "TRIM_HORIZON")
        for _ in range(PROBES):
            page = await self.call("get_records", ShardIterator=iterator, Limit=1)
            with understanding(self.facts.stream_arn, "DynamoDB"):
                if page["Records"]:
                    return to_records(page["Records"][:1], self.facts)[0].arrival
                iterator = page.get("NextShardIterator")
            if not iterator:
                return None
        return None

    async def iterator(self, shard_id: str, kind: str, **arguments: Any) -> str:
        """GetShardIterator; raises SourceError, and ClientError for a place that retention has overtaken."""
        arn = self.facts.stream_arn
        asked = {"StreamArn": arn, "ShardId": shard_id, "ShardIteratorType": kind, **arguments}
        answer = await self.call("get_shard_iterator", **asked)
        with understanding(arn, "DynamoDB"):
            return str(answer["ShardIterator"])

    async def _described(self, **arguments: Any) -> list[Shard]:
        found: list[Shard] = []
        while True:
            answer = await self.call("describe_stream", StreamArn=self.facts.stream_arn, **arguments)
            with understanding(self.facts.stream_arn, "DynamoDB"):
                description = answer["StreamDescription"]
                found += [_shard(entry) for entry in description.get("Shards") or ()]
                last = description.get("LastEvaluatedShardId")
            if not last:
                return found
            arguments["ExclusiveStartShardId"] = last

    async def created(self) -> float | None:
        """None: there is only one stream of an ARN, ever."""
        return None

    async def now(self) -> float:
        """The server's time."""
        before = time.time()
        answer = await self.call("describe_stream", StreamArn=self.facts.stream_arn, Limit=1)
        with understanding(self.facts.stream_arn, "DynamoDB"):
            return server_time(answer["ResponseMetadata"]["HTTPHeaders"].get("date"), before)

    def reader(self, shard_id: str, position: Position) -> DynamoDBReader:
        """A reader of one shard."""
        return DynamoDBReader(self, shard_id, position, self._read_limit)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()


class DynamoDBReader:
    """Reads one shard; an iterator lives for fifteen minutes and is renewed at the place reached.

    There is no iterator at a time: a Start with one reads from the oldest record and leaves out what was written in an
    earlier second. A place that retention has overtaken is refused, and given up for the oldest record there is.
    """

    def __init__(self, source: DynamoDBStream, shard_id: str, position: Position, limit: int) -> None:
        self._source = source
        self._shard_id = shard_id
        self._position = position
        self._limit = self._asked = limit
        """Records that a read may bring at most, and those that the last one asked for."""
        timestamp = position.timestamp if isinstance(position, Start) else None
        self._since = math.floor(timestamp) if timestamp is not None else None
        self._looked_ahead = timestamp is None or time.time() - timestamp > RETENTION  # hardly anything is older then
        self._iterator: str | None = None
        self._arrival: float | None = None
        self._skip_through: int | None = None
        self._lost: Gap | None = None

    async def read(self, most: int = MOST_READ) -> Polled:
        """One GetRecords; a shard that the stream has forgotten is at its end, and what was left of it a gap."""
        self._asked = min(self._limit, most)
        if not self._looked_ahead:
            children = await self._ended_before_start()
            self._looked_ahead = True
            if children:
                return Polled(ended=True, children=children)
        try:
            page = await self._page()
        except ClientError as error:
            page = await self._page_anew(error)
        except SourceError as error:
            if error.reason is not Reason.NOT_FOUND or await self._is_listed():
                raise
            return Polled(ended=True, gap=Gap(self._reached(), None, self._arrival))
        facts = self._source.facts
        with understanding(facts.stream_arn, "DynamoDB"):
            found = to_records(page["Records"], facts)
            following = page.get("NextShardIterator") or None
        self._iterator = following
        records = self._new(found)
        gap = self._gap(records, ended=following is None)
        behind = self._behind(found, records)
        children = await self._children() if following is None else ()
        return Polled(records, behind, following is None, children, gap)

    async def _ended_before_start(self) -> tuple[Shard, ...]:
        """The children of a shard that has nothing for us: one of them began before the start, hence after it ended.

        So a start at the tip need not read through the day that the stream keeps.
        """
        try:
            children = tuple(await self._source.children(self._shard_id))
        except SourceError as error:
            if error.reason not in UNKNOWN:
                raise
            return ()  # what it is that is unknown shows when the shard is read
        for child in children:
            try:
                oldest = await self._source.oldest(child.shard_id)
            except ClientError:  # trimmed meanwhile: not told
                continue
            if oldest is not None and self._since is not None and oldest < self._since - MARGIN:
                return children
        return ()

    def _behind(self, found: Batch, new: Batch) -> float:
        """Seconds to the tip, which nobody tells: a page that is full, or of old records, is not the last one."""
        if not found:
            return 0.0
        age = max(_LEAST_BEHIND, time.time() - found[-1].arrival)
        return age if len(found) >= self._asked or age > FRESH or not new else 0.0

    def _new(self, records: Batch) -> Batch:
        """What lies behind the place reached and is not older than the mapping's start."""
        if not records:
            return records
        last = records[-1]
        if self._skip_through is not None:
            known = self._skip_through
            if int(records[0].sequence_number) <= known:
                self._lost = None  # what follows the place is still there
            records = tuple(record for record in records if int(record.sequence_number) > known)
        if self._since is not None:
            first = next((index for index, one in enumerate(records) if one.arrival >= self._since), len(records))
            records = records[first:]
            self._since = None if records else self._since
        if self._skip_through is None or int(last.sequence_number) > self._skip_through:
            self._position, self._arrival, self._skip_through = After(last.sequence_number), last.arrival, None
        return records

    def _gap(self, records: Batch, *, ended: bool) -> Gap | None:
        """What retention took, once it shows where the shard goes on."""
        gap = self._lost
        if gap is None or not (records or ended):
            return None
        self._lost = None
        return replace(gap, first=records[0].sequence_number, first_arrival=records[0].arrival) if records else gap

    async def _page(self) -> Any:
        """Raises ClientError for an iterator that has expired and a place that is gone; SourceError for the rest."""
        if self._iterator is None:
            self._iterator = await self._open()
        try:
            return await self._source.call("get_records", ShardIterator=self._iterator, Limit=self._asked)
        except SourceError as error:
            if error.reason in UNKNOWN:
                self._iterator = None
            raise

    async def _page_anew(self, error: ClientError) -> Any:
        self._iterator = None
        try:
            if code_of(error) == _TRIMMED:
                self._iterator = await self._open_at_oldest()
            return await self._page()
        except ClientError as again:
            self._iterator = None
            message = f"{self._source.facts.stream_arn}: a fresh iterator was refused; it is tried again"
            raise SourceError(Reason.REJECTED, message) from again

    async def _open(self) -> str:
        """An iterator at the place reached; raises ClientError where retention has overtaken it."""
        position = self._position
        if not isinstance(position, After):
            return await self._source.iterator(self._shard_id, "TRIM_HORIZON")
        try:
            number = position.sequence_number
            return await self._source.iterator(self._shard_id, "AFTER_SEQUENCE_NUMBER", SequenceNumber=number)
        except SourceError as error:
            if error.reason is not Reason.REJECTED:
                raise
            return await self._open_at_oldest()

    async def _open_at_oldest(self) -> str:
        """An iterator at the oldest record there is, where the source does not know the place any more."""
        iterator = await self._source.iterator(self._shard_id, "TRIM_HORIZON")
        if isinstance(self._position, After):
            self._skip_through = int(self._position.sequence_number)
            self._lost = Gap(self._position.sequence_number, None, self._arrival)
        return iterator

    async def _is_listed(self) -> bool:
        return self._shard_id in {shard.shard_id for shard in await self._source.shards()}

    async def _children(self) -> tuple[Shard, ...]:
        """The shards that go on from this one, so that they need not wait for the next listing."""
        try:
            return tuple(await self._source.children(self._shard_id))
        except SourceError:  # the listing will find them
            return ()

    def _reached(self) -> str | None:
        return self._position.sequence_number if isinstance(self._position, After) else None


_CHANGE = (
    "ApproximateCreationDateTime",
    "Keys",
    "NewImage",
    "OldImage",
    "SequenceNumber",
    "SizeBytes",
    "StreamViewType",
)
"""What an event says of a change, as far as the answer does; botocore leaves out the rest, too (contract D.2)."""


def to_records(entries: Iterable[Mapping[str, Any]], facts: StreamFacts) -> Batch:
    """The records of a GetRecords answer, which is raw JSON, as they stand in the Lambda event (contract D.2).

    Attribute values stay as they came: numbers are text, binary is base64. Raises one of MALFORMED for what is none.
    """
    records = []
    for entry in entries:
        change = entry["dynamodb"]
        number, keys, created = change["SequenceNumber"], change["Keys"], float(change["ApproximateCreationDateTime"])
        whole = number.isascii() and number.isdigit() and isinstance(keys, dict) and bool(keys)
        said = [entry[name] for name in ("eventID", "eventName", "eventVersion")]
        if not (whole and 0 <= created < YEAR_10000 and all(isinstance(text, str) for text in said)):
            raise ValueError("not a record")
        event = {
            "eventID": entry["eventID"],
            "eventName": entry["eventName"],
            "eventVersion": entry["eventVersion"],
            "eventSource": "aws:dynamodb",
            "awsRegion": entry.get("awsRegion") or facts.region,
            "dynamodb": {name: change[name] for name in _CHANGE if change.get(name) is not None}
            | {"ApproximateCreationDateTime": created},
            **_identity(entry.get("userIdentity")),
            "eventSourceARN": facts.stream_arn,
        }
        records.append(Record(number, created, key_of(keys), orjson.dumps(event)))
    return tuple(records)


def key_of(keys: Mapping[str, Any]) -> str:
    """An item's primary key, hash and range, in one form: what decides its lane (contract B.1)."""
    return orjson.dumps(keys, option=orjson.OPT_SORT_KEYS).decode()


def _identity(told: Mapping[str, Any] | None) -> dict[str, Any]:
    """Who deleted an item, where that was DynamoDB itself at the end of its life; named as Lambda names it."""
    if not told:
        return {}
    return {"userIdentity": {"principalId": told["PrincipalId"], "type": told["Type"]}}


def _shard(entry: Mapping[str, Any]) -> Shard:
    parent = entry.get("ParentShardId")
    return Shard(entry["ShardId"], (parent,) if parent else ())
