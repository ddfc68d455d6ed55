"""Every row through the real data plane in virtual time, with a stream, function, destination and store of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import cache

import pytest

from headrace.stream.destinations.sns import MESSAGE_LIMIT
from tests.conformance.rows import ALL
from tests.conformance.table import (
    Row,
    call_key,
    call_step,
    counts_of,
    discard_step,
    info_faults,
    object_faults,
    records_of,
    same_order,
    window_of,
)
from tests.support.headrace import on_failure
from tests.support.virtual import EPOCH
from tests.support.world import Called, World, play

ARNS = {
    "kinesis": "arn:aws:kinesis:us-east-1:000000000000:stream/orders",
    "dynamodb": "arn:aws:dynamodb:us-east-1:000000000000:table/orders/stream/2026-01-02T03:04:05.678",
}
UID = "0b1c2d3e-0000-5111-8222-333344445555"
PLACES = {
    "sqs": "arn:aws:sqs:us-east-1:000000000000:failed",
    "sns": "arn:aws:sns:us-east-1:000000000000:failed",
    "s3": "arn:aws:s3:::failed",
}


def rows(holds: Callable[[Row], object]) -> pytest.MarkDecorator:
    chosen = [row for row in ALL if holds(row)]
    return pytest.mark.parametrize("row", chosen, ids=[f"{row.source}-{row.name}" for row in chosen])


EVERY = rows(lambda _: True)


def played(row: Row) -> World:
    return together(row.source, row.beside or row.name)[row.name]


@cache
def together(source: str, name: str) -> dict[str, World]:
    """A row and those beside it, by name."""
    rows = [row for row in ALL if row.source == source and name in {row.name, row.beside}]
    worlds = {row.name: world_of(row) for row in rows}
    play(list(worlds.values()), max(row.seconds for row in rows))
    return worlds


def world_of(row: Row) -> World:
    spec = {
        "eventSourceArn": ARNS[row.source],
        "startingPosition": "TRIM_HORIZON",
        "function": {"url": "http://function.example/", "protocol": row.protocol},
        **({"destinationConfig": on_failure(PLACES[row.destination])} if row.destination else {}),
        **row.spec,
    }
    return World(
        spec,
        row.puts,
        row.answer,
        name=f"row-{ALL.index(row)}",
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
    assert same_order(row, told(played(row))) == same_order(row, row.steps)


@rows(lambda row: row.at)
def test_calls_are_made_at_these_times(row: Row) -> None:
    assert [call.at for call in played(row).calls] == pytest.approx(list(row.at), abs=0.01)


@EVERY
def test_the_checkpoint_is_behind_what_is_decided(row: Row) -> None:
    saved = {shard: one.sequence_number for shard, one in played(row).saved.items() if one.sequence_number}
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
    counts = played(row).counts
    assert {name: getattr(counts, name) for name in counts_of(row)} == counts_of(row)


@rows(lambda row: row.result)
def test_the_last_processing_result_is_this(row: Row) -> None:
    assert played(row).last_result == row.result


@rows(lambda row: row.windows)
def test_calls_tell_their_window_and_state(row: Row) -> None:
    assert [window_of(call.seen.event) for call in played(row).calls] == list(row.windows)


@rows(lambda row: row.in_flight)
def test_so_many_calls_are_in_flight_at_a_time(row: Row) -> None:
    assert played(row).most_in_flight == row.in_flight


@EVERY
def test_identical_batches_share_a_request_id_and_different_ones_do_not(row: Row) -> None:
    ids: dict[tuple[object, ...], set[str]] = {}
    for call in played(row).calls:
        ids.setdefault(call_key(call.seen), set()).add(call.request_id)
    assert all(len(same) == 1 for same in ids.values())
    assert len({next(iter(same)) for same in ids.values()}) == len(ids)


@rows(lambda row: "→" in row.then)
def test_failure_records_are_named_and_timed_as_their_source_has_it(row: Row) -> None:
    documents = [one.document for one in played(row).happened if not isinstance(one, Called)]
    assert documents
    assert [fault for document in documents for fault in info_faults(row, document)] == []


@rows(lambda row: row.destination == "s3")
def test_an_object_has_its_place_and_the_last_event_as_text(row: Row) -> None:
    *_, call, record = played(row).happened
    assert isinstance(call, Called)
    assert not isinstance(record, Called)
    body = json.loads(record.object_body())
    assert object_faults(record.object_key(UID), body, call.seen.event) == []
    assert {name: value for name, value in body.items() if name != "payload"} == record.document


@rows(lambda row: row.destination == "sns")
def test_a_topics_message_is_the_document(row: Row) -> None:
    record = played(row).happened[-1]
    assert not isinstance(record, Called)
    assert json.loads(record.message(MESSAGE_LIMIT)) == record.document == json.loads(record.message())


@rows(lambda row: row.windows and row.result == "OK")
def test_a_window_is_closed_no_later_than_two_minutes_after_its_end(row: Row) -> None:
    closed = [call for call in played(row).calls if call.seen.event["isFinalInvokeForWindow"]]
    ends = [datetime.fromisoformat(call.seen.event["window"]["end"]).timestamp() - EPOCH for call in closed]
    assert closed or "final" in row.then
    assert all(call.at <= end + 120 for call, end in zip(closed, ends, strict=True))
