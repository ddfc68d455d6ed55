"""What a ShardLease's status says, and how it changes (design, "Leases and checkpoints")."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.records import Checkpoint, Head, LaneProgress, Window
from headrace.stream.progress import ShardFacts
from headrace.stream.stores.encoding import decode_lanes, decode_window, encode_lanes, encode_window
from headrace.stream.stores.lease_status import (
    advanced,
    checkpoint_of,
    released,
    state_names,
    status_of,
    window_of,
    with_facts,
    without_age,
)

LANES = (
    LaneProgress(4, 0, "12"),
    LaneProgress(4, 1, None, Head("13", "15", 3, 2)),
    LaneProgress(2, 1, "9", Head("10", "10", 1, 0), open=True),
)


def test_lanes_are_the_same_after_they_were_stored() -> None:
    assert decode_lanes(encode_lanes(LANES)) == LANES


def test_a_stored_lane_has_only_what_is_there() -> None:
    assert encode_lanes(LANES) == [
        {"factor": 4, "index": 0, "sequenceNumber": "12"},
        {"factor": 4, "index": 1, "head": {"first": "13", "last": "15", "count": 3, "attempts": 2}},
        {
            "factor": 2,
            "index": 1,
            "sequenceNumber": "9",
            "open": True,
            "head": {"first": "10", "last": "10", "count": 1, "attempts": 0},
        },
    ]


@pytest.mark.parametrize(
    ("window", "stored"),
    [
        (Window(60, 120, "7", b'{"n":1}'), {"start": 60, "end": 120, "first": "7"}),
        (Window(60, 120, "7", b"{}", final=True), {"start": 60, "end": 120, "first": "7", "final": True}),
        (
            Window(0, 60, "1", b"{}", final=True, early=True),
            {"start": 0, "end": 60, "first": "1", "final": True, "early": True},
        ),
    ],
)
def test_a_window_is_stored_without_its_state_and_is_the_same_again_with_it(
    window: Window, stored: dict[str, Any]
) -> None:
    assert encode_window(window) == stored
    assert window.state is not None
    assert decode_window(stored, window.state) == window


def test_a_lease_that_nobody_has_written_holds_no_checkpoint() -> None:
    assert checkpoint_of({}) == checkpoint_of({"status": None}) == checkpoint_of({"status": {}}) == Checkpoint()


@pytest.mark.parametrize("checkpoint", [Checkpoint("7"), Checkpoint("7", finished=True), Checkpoint("7", lanes=LANES)])
def test_a_lease_gives_back_the_checkpoint_it_was_given(checkpoint: Checkpoint) -> None:
    assert checkpoint_of({"status": advanced({}, checkpoint)}) == checkpoint


def test_a_checkpoint_never_goes_back_and_is_compared_by_number() -> None:
    assert advanced({"sequenceNumber": "9"}, Checkpoint("10"))["sequenceNumber"] == "10"
    assert advanced({"sequenceNumber": "10"}, Checkpoint("9"))["sequenceNumber"] == "10"
    assert advanced({"sequenceNumber": "10"}, Checkpoint())["sequenceNumber"] == "10"
    assert "sequenceNumber" not in advanced({}, Checkpoint())


@pytest.mark.parametrize("written", ["", "latest", "-5", "½", "٣"])
def test_a_sequence_number_written_by_hand_that_is_none_counts_as_nothing(written: str) -> None:
    """Even the first number a stream can have is beyond it."""
    assert advanced({"sequenceNumber": written}, Checkpoint("0"))["sequenceNumber"] == "0"


def test_the_lanes_are_those_of_the_last_checkpoint() -> None:
    status = advanced({}, Checkpoint("1", lanes=LANES))
    assert advanced(status, Checkpoint("2", lanes=LANES[:1]))["lanes"] == encode_lanes(LANES[:1])
    assert "lanes" not in advanced(status, Checkpoint("2"))


def test_an_open_window_is_told_with_the_names_of_what_holds_its_state() -> None:
    window = Window(60, 120, "7", b'{"n":1}')
    status = advanced({}, Checkpoint("6", window=window), ["s-0", "s-1"])
    assert status["window"] == {"start": 60, "end": 120, "first": "7", "state": ["s-0", "s-1"]}
    assert state_names({"status": status}) == ["s-0", "s-1"]
    assert window_of({"status": status}, b'{"n":1}') == window
    assert advanced(status, Checkpoint("6", window=window))["window"]["state"] == []


def test_a_window_leaves_the_rest_of_the_status_as_it_is() -> None:
    status = advanced({"state": "Held", "holder": "p"}, Checkpoint("6", window=Window(60, 120, "7", b"{}")))
    assert (status["state"], status["holder"], status["sequenceNumber"]) == ("Held", "p", "6")


def test_a_window_that_is_closed_is_told_no_more() -> None:
    status = advanced({}, Checkpoint("6", window=Window(60, 120, "7", b"{}")), ["s-0"])
    closed = {"status": advanced(status, Checkpoint("7"))}
    assert "window" not in status_of(closed)
    assert window_of(closed, b"") is None
    assert state_names(closed) == []


@pytest.mark.parametrize("lease", [{}, {"status": None}, {"status": {}}, {"status": {"window": {"start": 0}}}])
def test_a_lease_without_a_state_names_none(lease: dict[str, Any]) -> None:
    assert state_names(lease) == []


def test_a_finished_shard_stays_finished_and_has_no_age() -> None:
    status = advanced({"state": "Held", "holder": "p", "iteratorAgeSeconds": 9}, Checkpoint("7", finished=True))
    assert status == {"sequenceNumber": "7", "finished": True, "state": "Finished", "holder": "p"}
    assert advanced(status, Checkpoint("7")) == status
    assert released(status) == status


@pytest.mark.parametrize(
    ("before", "after"), [("Waiting", "Held"), ("Available", "Held"), ("Retrying", "Retrying"), ("Blocked", "Blocked")]
)
def test_a_checkpoint_says_that_a_shard_is_held_and_leaves_its_troubles_as_they_are(before: str, after: str) -> None:
    assert advanced({"state": before}, Checkpoint("1")) == {"state": after, "sequenceNumber": "1", "finished": False}


def test_a_status_without_a_state_is_given_none() -> None:
    assert advanced({"holder": "p"}, Checkpoint()) == {"holder": "p", "finished": False}


def test_a_lease_that_is_given_back_has_no_holder() -> None:
    status = {"sequenceNumber": "7", "state": "Retrying", "holder": "p"}
    assert released(status) == {"sequenceNumber": "7", "state": "Available"}


def test_facts_are_told_beside_the_checkpoint_and_what_is_not_known_is_left_out() -> None:
    status = {"sequenceNumber": "7", "lastError": "old", "attempts": 4, "iteratorAgeSeconds": 3}
    assert with_facts(status, ShardFacts()) == {"sequenceNumber": "7", "state": "Held", "attempts": 0}
    assert with_facts(status, ShardFacts("Retrying", 2, "boom", 7.6)) == {
        "sequenceNumber": "7",
        "state": "Retrying",
        "attempts": 2,
        "lastError": "boom",
        "iteratorAgeSeconds": 8,
    }


def test_an_error_is_told_up_to_1024_characters() -> None:
    assert with_facts({}, ShardFacts(last_error="x" * 1024))["lastError"] == "x" * 1024
    assert with_facts({}, ShardFacts(last_error="x" * 1025))["lastError"] == "x" * 1024


def test_without_its_age_a_status_is_the_same_while_nothing_happens() -> None:
    assert without_age({"state": "Held", "iteratorAgeSeconds": 3}) == {"state": "Held"}


def test_a_shard_that_is_stuck_says_since_when_and_on_which_record() -> None:
    facts = ShardFacts("Retrying", 2, "boom", stuck_since=60.0, stuck_on="8")
    told = with_facts({}, facts)
    assert (told["stuckSince"], told["stuckOn"]) == ("1970-01-01T00:01:00.000Z", "8")
    assert not {"stuckSince", "stuckOn"} & set(with_facts(told, ShardFacts()))


def test_a_record_that_a_former_holder_was_stuck_on_is_stuck_since_then() -> None:
    status = {"state": "Available", "stuckSince": "1970-01-01T00:00:09.000Z", "stuckOn": "8", "attempts": 3}
    status |= {"lastError": "former"}
    assert with_facts(status, ShardFacts(fresh=True)) == status | {"state": "Held"}
    moved = with_facts(status, ShardFacts("Retrying", 3, stuck_since=60.0, stuck_on="8"))
    assert moved == status | {"state": "Retrying"}, "what nothing was heard of since stays"
    same = with_facts(status, ShardFacts("Retrying", 4, "boom", stuck_since=60.0, stuck_on="8"))
    assert (same["stuckSince"], same["lastError"]) == ("1970-01-01T00:00:09.000Z", "boom")
    other = with_facts(status, ShardFacts("Retrying", 1, "boom", stuck_since=60.0, stuck_on="9"))
    assert (other["stuckSince"], other["lastError"]) == ("1970-01-01T00:01:00.000Z", "boom")
    assert "lastError" not in with_facts(status, ShardFacts("Retrying", 1, stuck_since=60.0, stuck_on="9"))
    unknown = with_facts({"stuckSince": "1970-01-01T00:00:09.000Z"}, ShardFacts("Retrying", stuck_since=60.0))
    assert unknown["stuckSince"] == "1970-01-01T00:01:00.000Z"
