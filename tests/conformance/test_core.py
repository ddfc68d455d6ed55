"""Every row through the real data plane in virtual time, with a stream, function, destination and store of its own."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache

import pytest

from headrace.stream.destinations.sns import MESSAGE_LIMIT
from tests.conformance.rows import ROWS
from tests.conformance.table import (
    Row,
    call_key,
    call_step,
    counts_of,
    discard_step,
    object_faults,
    records_of,
    same_order,
    window_of,
)
from tests.support.headrace import on_failure
from tests.support.virtual import EPOCH
from tests.support.world import Called, World, play

ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/orders"
UID = "0b1c2d3e-0000-5111-8222-333344445555"
PLACES = {
    "sqs": "arn:aws:sqs:us-east-1:000000000000:failed",
    "sns": "arn:aws:sns:us-east-1:000000000000:failed",
    "s3": "arn:aws:s3:::failed",
}
EVERY = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def played(name: str) -> World:
    (row,) = (row for row in ROWS if row.name == name)
    return together(row.beside or name)[name]


@cache
def together(name: str) -> dict[str, World]:
    """A row and those beside it, by name."""
    rows = [row for row in ROWS if name in {row.name, row.beside}]
    worlds = {row.name: world_of(row) for row in rows}
    play(list(worlds.values()), max(row.seconds for row in rows))
    return worlds


def world_of(row: Row) -> World:
    spec = {
        "eventSourceArn": ARN,
        "startingPosition": "TRIM_HORIZON",
        "function": {"url": "http://function.example/", "protocol": row.protocol},
        **({"destinationConfig": on_failure(PLACES[row.destination])} if row.destination else {}),
        **row.spec,
    }
    return World(
        spec,
        row.puts,
        row.answer,
        name=f"row-{ROWS.index(row)}",
        shards=row.shards,
        destination=row.destination is not None,
        destination_away_until=row.away_until,
        stops=row.stops,
    )


def told(world: World) -> list[str]:
    return [
        call_step(one.seen.records, one.mark) if isinstance(one, Called) else discard_step(one.document, int)
        for one in world.happened
    ]


@EVERY
def test_exactly_this_happens_in_this_order(row: Row) -> None:
    assert same_order(row, told(played(row.name))) == same_order(row, row.steps)


@pytest.mark.parametrize("row", [row for row in ROWS if row.at], ids=lambda row: row.name)
def test_calls_are_made_at_these_times(row: Row) -> None:
    assert [call.at for call in played(row.name).calls] == pytest.approx(list(row.at), abs=0.01)


@EVERY
def test_the_checkpoint_is_behind_what_is_decided(row: Row) -> None:
    saved = {shard: one.sequence_number for shard, one in played(row.name).saved.items() if one.sequence_number}
    if row.checkpoint == -1:
        assert saved == {put.shard: str(number) for number, put in enumerate(row.puts, 1) if put.shard in saved}
        assert set(saved) == {row.puts[number - 1].shard for number in decided(row)}
    elif row.checkpoint is not None:
        assert saved == {row.shards[0].shard_id: str(row.checkpoint)}
    else:
        undecided = [number for number in range(1, len(row.puts) + 1) if number not in decided(row)]
        assert not set(saved.values()) & set(map(str, undecided))


def decided(row: Row) -> set[int]:
    """Records that a success, or a discard, has decided."""
    found = {number for step in row.steps if step.endswith("✓") for number in records_of(step)}
    if row.filtered or row.dropped or "→" in row.then:
        found |= set(range(1, len(row.puts) + 1))
    return found


@EVERY
def test_the_metrics_count_exactly_this(row: Row) -> None:
    counts = played(row.name).counts
    assert {name: getattr(counts, name) for name in counts_of(row)} == counts_of(row)


@pytest.mark.parametrize("row", [row for row in ROWS if row.result], ids=lambda row: row.name)
def test_the_last_processing_result_is_this(row: Row) -> None:
    assert played(row.name).last_result == row.result


@pytest.mark.parametrize("row", [row for row in ROWS if row.windows], ids=lambda row: row.name)
def test_calls_tell_their_window_and_state(row: Row) -> None:
    assert [window_of(call.seen.event) for call in played(row.name).calls] == list(row.windows)


@pytest.mark.parametrize("row", [row for row in ROWS if row.in_flight], ids=lambda row: row.name)
def test_so_many_calls_are_in_flight_at_a_time(row: Row) -> None:
    assert played(row.name).most_in_flight == row.in_flight


@EVERY
def test_identical_batches_share_a_request_id_and_different_ones_do_not(row: Row) -> None:
    ids: dict[tuple[object, ...], set[str]] = {}
    for call in played(row.name).calls:
        ids.setdefault(call_key(call.seen), set()).add(call.request_id)
    assert all(len(same) == 1 for same in ids.values())
    assert len({next(iter(same)) for same in ids.values()}) == len(ids)


@pytest.mark.parametrize("row", [row for row in ROWS if row.destination == "s3"], ids=lambda row: row.name)
def test_an_object_has_its_place_and_the_last_event_as_text(row: Row) -> None:
    *_, call, record = played(row.name).happened
    assert isinstance(call, Called)
    assert not isinstance(record, Called)
    body = json.loads(record.object_body())
    assert object_faults(record.object_key(UID), body, call.seen.event) == []
    assert {name: value for name, value in body.items() if name != "payload"} == record.document


@pytest.mark.parametrize("row", [row for row in ROWS if row.destination == "sns"], ids=lambda row: row.name)
def test_a_topics_message_is_the_document(row: Row) -> None:
    record = played(row.name).happened[-1]
    assert not isinstance(record, Called)
    assert json.loads(record.message(MESSAGE_LIMIT)) == record.document == json.loads(record.message())


@pytest.mark.parametrize("row", [row for row in ROWS if row.windows and row.result == "OK"], ids=lambda row: row.name)
def test_a_window_is_closed_no_later_than_two_minutes_after_its_end(row: Row) -> None:
    closed = [call for call in played(row.name).calls if call.seen.event["isFinalInvokeForWindow"]]
    ends = [datetime.fromisoformat(call.seen.event["window"]["end"]).timestamp() - EPOCH for call in closed]
    assert closed or "final" in row.then
    assert all(call.at <= end + 120 for call, end in zip(closed, ends, strict=True))
