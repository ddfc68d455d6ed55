"""A start at a time over rotating shards: nothing from it on is left out, whatever is passed by (DESIGN 41)."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import Reason, SourceError
from headrace.records import Shard, Start
from headrace.stream.aws import AwsAccess, AwsSettings
from headrace.stream.sources.dynamodb import DynamoDBStream, StreamFacts
from tests.support.aws import REGION
from tests.support.fake_dynamodb import FakeTable, Refused

NOW = float(int(time.time()))
GENERATIONS = st.lists(st.tuples(st.lists(st.integers(0, 100), max_size=5), st.integers(1, 2)), min_size=1, max_size=6)
"""Of each generation: seconds from one record to the next, and how many children it ends in."""


def source_of(fake: FakeTable) -> DynamoDBStream:
    """The source, with the fake's answers and no socket between."""
    source = DynamoDBStream(StreamFacts(fake.arn, REGION), AwsAccess(AwsSettings()), read_limit=3)

    async def call(operation: str, **arguments: Any) -> Any:
        name = "".join(part.capitalize() for part in operation.split("_"))
        try:
            return getattr(fake, f"_{name}")(**arguments)
        except Refused as refused:
            if refused.code == "TrimmedDataAccessException":
                raise ClientError({"Error": {"Code": refused.code}}, name) from refused
            raise SourceError(Reason.REJECTED, refused.code) from refused

    source.call = call  # type: ignore[method-assign]
    return source


@given(GENERATIONS, st.integers(0, 1500), st.integers(0, 999))
async def test_what_was_written_from_the_starts_second_on_is_read_and_nothing_before(
    generations: list[tuple[list[int], int]], back: int, fraction: int
) -> None:
    fake, written, at = FakeTable(), dict[str, float](), NOW - 1000
    for steps, children in generations:
        for step in steps:
            at += step
            for index, shard in enumerate(fake.shards.values()):
                if not shard.closed:
                    text = str(len(written))
                    fake.put(text, shard=index, at=at)
                    written[text] = at
        for index, shard in enumerate(list(fake.shards.values())[:8]):
            if not shard.closed:
                fake.rotate(index, children)
    start = NOW - back + fraction / 1000
    assert sorted(await texts(source_of(fake), start)) == sorted(one for one, at in written.items() if at >= NOW - back)


async def texts(source: DynamoDBStream, start: float) -> list[str]:
    """Everything that is read, each shard after its parent, as the children are named."""
    waiting, seen, found = deque[Shard]([(await source.shards())[0]]), set[str](), []
    while waiting:
        shard = waiting.popleft()
        assert shard.shard_id not in seen
        seen.add(shard.shard_id)
        reader, quiet = source.reader(shard.shard_id, Start(start)), False
        while not quiet:
            polled = await reader.read()
            found += [record.event.decode().split('"data":{"S":"')[1].split('"')[0] for record in polled.records]
            waiting.extend(polled.children)
            quiet = polled.ended or not (polled.records or polled.behind)
    return found
