"""Who reads which shard and which are stuck: from ShardLeases, and from reports where the leases are in a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headrace.cluster import Body
from headrace.control.observe import Observed
from headrace.control.shards import assignment, counts, stuck, unowned
from headrace.errors import Reason
from headrace.heartbeat import MOST_NAMED, Heartbeat, heartbeat_of
from headrace.heartbeat import lease as heartbeat_lease
from headrace.resources import MappingRef
from headrace.stuck import LONGEST, StuckShard, stuck_shard
from tests.unit.test_fleet_metrics import IN_A_TABLE, MAPPING, lease, seen

OTHER = "arn:aws:kinesis:eu-west-1:123456789012:stream/former"
OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


@pytest.mark.parametrize(
    ("leases", "expected"),
    [
        ((lease("1", holder="a"),), ()),
        ((lease("1", holder="a", incarnation="0"),), ("1",)),
        ((lease("1", holder="dead"), lease("0")), ("0", "1")),
        ((lease("1", finished=True),), ()),
        ((lease("1", holder="a"), lease("2", "1")), ()),
        ((lease("1", finished=True), lease("2", "1", state="Waiting")), ("2",)),
        ((lease("2", "forgotten"),), ("2",)),
        ((lease("1", made=OLD), lease("2", made=NEW, holder="a")), ()),
        ((lease("1"), lease("2", made=NEW, holder="a")), ("1",)),
        ((lease("1", source=OTHER), lease("2", holder="a")), ()),
        (({"spec": None, "status": None},), ("None",)),
    ],
    ids=[
        "held", "a former life", "dead or no holder", "finished", "waits for its parent", "parent finished",
        "parent forgotten", "former stream", "from before there were marks", "another stream", "broken by hand",
    ],
)  # fmt: skip
def test_a_shard_is_unowned_when_it_could_be_read_and_nobody_holds_it_in_the_life_it_is_in(
    leases: tuple[Body, ...], expected: tuple[str, ...]
) -> None:
    """One definition: the metric's, the alert's and the condition's."""
    free = unowned(seen(*leases))
    assert (free.count, free.names) == (len(expected), expected)
    assert (assignment(seen(*leases))[1] is Reason.SHARDS_UNASSIGNED) == bool(expected)


def beat(identity: str = "a", **more: Any) -> Heartbeat:
    return Heartbeat(identity, 1, **more)


def tabled(*beats: Heartbeat) -> Observed:
    return Observed(IN_A_TABLE, {}, beats, (lease("left over"),))


def test_with_a_table_the_condition_names_what_pollers_name_and_counts_the_rest() -> None:
    names = tuple(f"s{number}" for number in range(5))
    beats = (
        beat(shards_ready=9, shards_held=2, shards_unowned=5, unowned=names),
        beat("b", shards_ready=9, shards_held=2, shards_unowned=0),
    )
    status, reason, message = assignment(tabled(*beats))
    assert (status, reason) == ("False", Reason.SHARDS_UNASSIGNED)
    assert "5 of 9 shards are read by nobody: s0, s1, s2 and 2 more" in message
    assert assignment(tabled(beat(shards_ready=9, shards_held=9)))[0] == "True"
    assert assignment(tabled())[0] == "Unknown"


def test_shards_of_a_poller_that_died_are_missed_before_anybody_names_them() -> None:
    free = unowned(tabled(beat(shards_ready=4, shards_held=2)))
    assert (free.count, free.names) == (2, ())


@pytest.mark.parametrize(
    ("free", "text"),
    [
        (1, "1 of 4 shards are read by nobody: 0; live"),
        (3, "3 of 4 shards are read by nobody: 0, 1, 2; live"),
        (4, "4 of 4 shards are read by nobody: 0, 1, 2 and 1 more; live"),
    ],
)
def test_three_shards_are_named_and_the_others_counted(free: int, text: str) -> None:
    leases = [lease(str(number), holder="a" if number >= free else "dead") for number in range(4)]
    assert assignment(seen(*leases)) == (
        "False",
        Reason.SHARDS_UNASSIGNED,
        f"{text} pollers take them within seconds; if it lasts, see the condition Ready and the pollers' logs",
    )


def test_shards_that_nobody_names_are_counted() -> None:
    assert assignment(tabled(beat(shards_ready=4, shards_held=2)))[2].startswith(
        "2 of 4 shards are read by nobody; live pollers"
    )


def test_what_any_poller_counts_or_names_is_missing_at_least() -> None:
    assert unowned(tabled(beat(shards_ready=4, shards_held=4, shards_unowned=3))).count == 3
    assert unowned(tabled(beat(shards_ready=4, shards_held=4, unowned=("s1", "s2")))).count == 2
    assert unowned(tabled(beat(shards_ready=4, shards_held=6))).count == 0
    assert unowned(tabled()).count == 0


def test_leases_say_how_many_shards_can_be_read_though_a_poller_tells_of_more() -> None:
    told = (beat(shards_ready=9, incarnation="1"),)
    assert "each of the 1 shards" in assignment(Observed(MAPPING, {}, told, (lease("1", holder="a"),)))[2]


def test_with_a_table_held_are_the_shards_that_pollers_tell_of() -> None:
    beats = (beat(shards_total=9, shards_held=2, shards_blocked=1), beat("b", shards_total=8, shards_held=3))
    assert counts(tabled(*beats)) == {"total": 9, "assigned": 5, "blocked": 1}


def test_a_lease_without_a_shard_goes_by_its_own_name() -> None:
    broken: Body = {"metadata": {"name": "orders-x"}, "spec": {}}
    assert unowned(seen(broken)).names == ("orders-x",)


STUCK: Body = {
    "state": "Blocked",
    "stuckSince": OLD,
    "stuckOn": "77",
    "attempts": 5,
    "lastError": "no such queue",
    "incarnation": "1",
}
SENTENCE = f"s1 is blocked since {OLD} on record 77 after 5 failed calls: no such queue"


def test_a_stuck_shard_is_told_in_the_same_words_from_a_lease_and_from_a_report() -> None:
    assert stuck(Observed(MAPPING, {}, (beat(),), (lease("s1") | {"status": STUCK},))) == SENTENCE
    assert stuck(tabled(beat(shards_stuck=1, stuck=stuck_shard("s1", STUCK)), beat("b"))) == SENTENCE
    assert stuck(tabled(beat())) == ""


def test_with_a_table_the_worst_of_each_poller_is_told_the_worst_first_and_the_rest_counted() -> None:
    worst = (("s1", "Retrying", OLD), ("s2", "Blocked", NEW), ("s3", "Blocked", OLD), ("s4", "Retrying", None))
    beats = [
        beat(shard, shards_stuck=2, stuck=StuckShard(shard, state, since, "7", 1, "no"))
        for shard, state, since in worst
    ]
    told = stuck(tabled(*beats)).split("; ")
    assert [one.split()[0] for one in told[:3]] == ["s3", "s2", "s1"]
    assert told[3] == "and 5 more"
    one_more = stuck(tabled(*(replace(each, shards_stuck=1) for each in beats))).split("; ")
    assert one_more[3:] == ["and 1 more"]


@pytest.mark.parametrize("status", [{}, {"state": "Held"}, {"state": "Blocked", "finished": True}, {"state": ["?"]}])
def test_a_shard_that_gets_ahead_or_has_ended_is_not_stuck(status: Body) -> None:
    assert stuck_shard("s1", status) is None


def test_a_report_of_shards_is_bounded_and_survives_the_way_through_the_lease() -> None:
    names = tuple(f"shardId-{number:012}" for number in range(1000))
    status = STUCK | {"lastError": "x" * 5000, "stuckOn": "7" * 5000}
    told = beat(shards_unowned=1000, unowned=names, shards_stuck=3, stuck=stuck_shard(names[0], status))
    body = heartbeat_lease(MappingRef("shop", "orders", "0a1b2c3d-1"), told, "1")
    assert len(told.encode()) < 2000
    read = heartbeat_of(body)
    assert (read.shards_unowned, read.unowned, read.shards_stuck) == (1000, names[:MOST_NAMED], 3)
    assert read.stuck == StuckShard(names[0], "Blocked", OLD, "7" * LONGEST, 5, "x" * LONGEST)


def test_a_stuck_shard_of_another_stream_is_not_told() -> None:
    other = lease("s1", source=OTHER) | {"status": STUCK}
    assert stuck(Observed(MAPPING, {}, (beat(),), (other, lease("s2")))) == ""
