"""Filter criteria through `headrace run` (contract E, K.7)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson

from tests.support.aws import make_stream
from tests.support.function import RecordingFunction
from tests.support.headrace import finished, mapping, run, write

IDLE = ("--exit-when-idle", 1.5)


def patterns(*found: object) -> dict[str, Any]:
    return {"filters": [{"pattern": json.dumps(one)} for one in found]}


async def test_only_matching_records_are_delivered_byte_for_byte_and_the_checkpoint_passes_all(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    """Row 68, twice: the second run finds nothing to do."""
    stream = await make_stream(kinesis)
    data = [b'{"n": 1}', b'{"type":"order" , "n": 2.50}', b"no JSON", b'{"n": 4, "type":"order"}', b"\xff\xfe"]
    await stream.put_bytes(data)
    spec = mapping(stream.arn, function.url, batchSize=2, filterCriteria=patterns({"data": {"type": ["order"]}}))
    file = write(tmp_path, spec)
    summaries = []
    for _ in range(2):
        async with run(file, ministack, "--state", state, *IDLE) as running:
            assert await running.end() == 0
        summaries.append(running.summary)
    assert function.seen == [[data[1].decode(), data[3].decode()]]
    first, second = summaries
    assert (first["polled"], first["filteredOut"], first["invoked"]) == (5, 3, 2)
    assert second["polled"] == 0


async def test_filters_are_alternatives_and_metadata_may_be_asked_for(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    """Row 71."""
    stream = await make_stream(kinesis)
    for number in range(4):
        await stream.put(orjson.dumps({"n": number}).decode(), key=f"key {number}")
    criteria = patterns({"data": {"n": [{"numeric": [">", 2]}]}}, {"kinesis": {"partitionKey": ["key 0"]}})
    file = write(tmp_path, mapping(stream.arn, function.url, filterCriteria=criteria))
    async with run(file, ministack, *IDLE) as running:
        assert await running.end() == 0
    assert [data for batch in function.seen for data in batch] == ['{"n":0}', '{"n":3}']


async def test_a_pattern_that_is_none_is_refused_with_its_place(tmp_path: Path) -> None:
    """Row 73."""
    arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
    for pattern, place in (
        ('{"data":', "character"),
        ('{"data":{"a":"b"}}', "data.a"),
        ("null", ""),
        ('{"data":{"a":[]}}', "data.a"),
    ):
        file = write(tmp_path, mapping(arn, "http://127.0.0.1:1/", filterCriteria={"filters": [{"pattern": pattern}]}))
        status, output = await finished("validate", "-f", file)
        assert status == 2
        assert "spec.filterCriteria.filters[0].pattern: Invalid filter pattern definition." in output
        assert place in output
        assert len(output.splitlines()) == 1
