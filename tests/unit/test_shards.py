"""Parents before children (contract B.8)."""

from __future__ import annotations

from headrace.records import After, Checkpoint, Shard, Start
from headrace.stream.shards import expired, position, startable

DONE = Checkpoint("9", finished=True)


def started(shards: list[Shard], **checkpoints: Checkpoint) -> list[str]:
    return [shard.shard_id for shard in startable(shards, checkpoints)]


def test_shards_without_parents_start_at_once() -> None:
    assert started([Shard("a"), Shard("b")]) == ["a", "b"]


def test_children_of_a_split_wait_for_their_parent() -> None:
    shards = [Shard("a"), Shard("a1", ("a",)), Shard("a2", ("a",))]
    assert started(shards) == ["a"]
    assert started(shards, a=Checkpoint("5")) == ["a"]
    assert started(shards, a=DONE) == ["a1", "a2"]


def test_the_child_of_a_merge_waits_for_both_parents() -> None:
    shards = [Shard("a"), Shard("b"), Shard("ab", ("a", "b"))]
    assert started(shards, a=DONE) == ["b"]
    assert started(shards, a=DONE, b=DONE) == ["ab"]


def test_a_parent_that_the_source_has_forgotten_holds_up_nobody() -> None:
    assert started([Shard("a1", ("a",))]) == ["a1"]


def test_a_finished_shard_never_starts_again() -> None:
    assert started([Shard("a")], a=DONE) == []


def test_reading_goes_on_behind_the_checkpoint_else_from_the_start() -> None:
    start = Start(5.0)
    assert position(Checkpoint("7"), start) == After("7")
    assert position(Checkpoint(), start) == start
    assert position(None, start) == start


def test_a_parent_that_only_the_checkpoints_know_is_waited_for_until_it_is_finished() -> None:
    child = Shard("a1", ("a",))
    assert started([child], a=Checkpoint("5")) == []
    assert started([child], a=DONE) == ["a1"]
    assert expired([child], {"a": Checkpoint("5"), "b": Checkpoint("6")}) == ("a",)
    assert expired([Shard("a"), child], {"a": Checkpoint("5")}) == expired([child], {"a": DONE}) == ()
