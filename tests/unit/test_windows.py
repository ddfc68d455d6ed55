"""Tumbling windows: the event, what an answer must hold, and when a window closes (contract B.7)."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from headrace.records import Checkpoint, Head, LaneProgress, Window
from headrace.stream import retry
from headrace.stream.batching import BatchLimits
from headrace.stream.classify import Failed, FailureKind, Outcome, PartiallyFailed, Succeeded, classify
from headrace.stream.functions import Response
from headrace.stream.lanes import Lanes, lane_of
from headrace.stream.report import Origin, failure_record
from headrace.stream.retry import Condition, Discard, RetryPolicy
from headrace.stream.windows import IDLE_GRACE, STATE_LIMIT, Tumbling, encoding
from tests.support.records import record, records

OPEN = Window(60, 120, "7", b'{"n":1}')
ORIGIN = Origin("arn:f", "arn:s", "shard")


def answer(body: object, **headers: str) -> Response:
    return Response(200, headers, body if isinstance(body, bytes) else orjson.dumps(body))


def classified(body: object, *, report_failures: bool = False) -> Outcome:
    return classify(answer(body), ["1", "2"], lambda_protocol=True, report_failures=report_failures, wants_state=True)


def test_an_event_has_the_six_members_beside_its_records() -> None:
    body = encoding(replace(OPEN, final=True), "shard", "arn:s").encode(())
    assert orjson.loads(body) == {
        "Records": [],
        "window": {"start": "1970-01-01T00:01:00Z", "end": "1970-01-01T00:02:00Z"},
        "state": {"n": 1},
        "shardId": "shard",
        "eventSourceARN": "arn:s",
        "isFinalInvokeForWindow": True,
        "isWindowTerminatedEarly": False,
    }


def test_the_first_call_of_a_window_has_an_empty_state() -> None:
    body = encoding(replace(OPEN, state=None), "shard", "arn:s").encode(records(1, 2))
    assert orjson.loads(body)["state"] == {}
    assert orjson.loads(body)["Records"] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    "body", [None, b"", {}, [], "x", 1, {"state": None}, {"state": []}, {"state": "x"}, {"State": {}}]
)
def test_an_answer_without_an_object_named_state_is_a_failure(body: object) -> None:
    outcome = classified(body)
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.function_error) == (FailureKind.MISSING_STATE, None)


def test_a_state_comes_with_success_and_with_partial_success() -> None:
    assert classified({"state": {"n": 1}}) == Succeeded(b'{"n":1}')
    failures = {"state": {}, "batchItemFailures": [{"itemIdentifier": "2"}]}
    assert classified(failures, report_failures=True) == PartiallyFailed(1, b"{}", frozenset({"2"}))
    assert classified(failures) == Succeeded(b"{}")


def test_a_state_is_no_use_without_progress() -> None:
    failures = {"state": {}, "batchItemFailures": [{"itemIdentifier": "1"}]}
    outcome = classified(failures, report_failures=True)
    assert isinstance(outcome, Failed)
    assert outcome.kind is FailureKind.PARTIAL


def test_a_final_call_needs_no_state() -> None:
    assert classify(answer(None), [], lambda_protocol=True, report_failures=False) == Succeeded()


def test_a_window_is_aligned_to_the_epoch_and_half_open() -> None:
    windows = Tumbling(60)
    for arrival, bounds in ((0.0, (0, 60)), (59.999, (0, 60)), (60.0, (60, 120)), (1_000_000.5, (999_960, 1_000_020))):
        window = windows.of(record(1, arrival=arrival))
        assert window is not None
        assert (window.start, window.end) == bounds


def test_a_late_record_goes_to_the_window_that_is_open() -> None:
    assert Tumbling(60, OPEN).of(record(1, arrival=30.0)) is OPEN


@pytest.mark.parametrize(
    ("following", "ended", "tip", "closes"),
    [
        (119.9, False, 1e9, False),
        (120.0, False, 0.0, True),
        (119.9, True, 0.0, False),
        (None, True, 0.0, True),
        (None, False, 120 + IDLE_GRACE - 0.1, False),
        (None, False, 120 + IDLE_GRACE, True),
    ],
)
def test_a_window_closes_for_a_later_record_the_end_of_the_shard_or_silence(
    following: float | None, ended: bool, tip: float, closes: bool
) -> None:
    windows = Tumbling(60, OPEN)
    windows.read_to_tip(tip)
    head = record(1, arrival=following) if following is not None else None
    assert windows.closing(head, ended=ended) == (replace(OPEN, final=True) if closes else None)


def test_a_window_is_closed_at_once_where_windows_were_turned_off() -> None:
    assert Tumbling(0, OPEN).closing(record(1, arrival=70.0), ended=False) == replace(OPEN, final=True)


def test_a_state_over_the_limit_ends_the_window_before_the_rest_of_the_batch() -> None:
    policy = RetryPolicy(maximum_age=None)
    state = retry.start(records(1, 2, 3), window=replace(OPEN, state=None))
    exact, large = b"x" * STATE_LIMIT, b"x" * (STATE_LIMIT + 1)
    grown = retry.step(state, retry.Called(PartiallyFailed(1, exact)), 0.0, policy, 1.0)
    assert retry.decide(grown, 0.0, policy)[1] == retry.Invoke(records(2, 3), 1, replace(OPEN, state=exact))
    state = retry.step(grown, retry.Called(PartiallyFailed(1, large)), 0.0, policy, 1.0)
    early = replace(OPEN, state=large, final=True, early=True)
    assert retry.decide(state, 0.0, policy)[1] == retry.Invoke((), 1, early)
    state = retry.step(state, retry.Called(Succeeded()), 0.0, policy, 1.0)
    assert retry.decide(state, 0.0, policy)[1] == retry.Invoke(records(3), 1, Window(60, 120, "3"))


def test_a_final_call_is_as_old_as_the_start_of_its_window() -> None:
    policy = RetryPolicy(maximum_age=60.0)
    state = retry.start((), window=replace(OPEN, final=True))
    assert retry.decide(state, 119.9, policy)[1] == retry.Invoke((), 1, replace(OPEN, final=True))
    expired, action = retry.decide(state, 120.0, policy)
    assert isinstance(action, retry.Drop)
    assert (action.discard.condition, action.discard.invocations) == (Condition.RECORD_AGE_EXCEEDED, 1)
    after = retry.step(expired, retry.Dropped(), 120.0, policy, 1.0)
    assert retry.decide(after, 120.0, policy)[1] == retry.Done()
    assert after.window is None


def test_a_failure_record_tells_the_window_and_its_payload_is_the_whole_event() -> None:
    discard = Discard(records(8), Condition.RETRY_ATTEMPTS_EXHAUSTED, 2, None, records(8), 130.0, OPEN)
    made = failure_record(ORIGIN, discard, "id", "name")
    assert made.document["timeWindowInfo"] == {
        "window": {"start": "1970-01-01T00:01:00Z", "end": "1970-01-01T00:02:00Z"},
        "isFinalInvokeForWindow": False,
        "isWindowTerminatedEarly": False,
    }
    payload = orjson.loads(orjson.loads(made.object_body())["payload"])
    assert (payload["Records"], payload["state"], payload["shardId"]) == ([{"n": 8}], {"n": 1}, "shard")


def test_the_failure_record_of_a_final_call_names_the_shard_and_no_record() -> None:
    discard = Discard((), Condition.RETRY_ATTEMPTS_EXHAUSTED, 2, None, (), 130.0, replace(OPEN, final=True))
    document = failure_record(ORIGIN, discard, "id", "name").document
    assert document["KinesisBatchInfo"] == {"shardId": "shard", "streamArn": "arn:s"}


def test_lanes_of_before_there_were_windows_give_way_to_one_and_nothing_decided_comes_again() -> None:
    """Lane 1 of 2 had decided record 2 and lane 0 was stuck on record 1, which begins anew."""
    lanes = (LaneProgress(2, 0, None, Head("1", "1", 1, 3), open=True), LaneProgress(2, 1, "2"))
    limits = BatchLimits(10, tumbling=60)
    zero, one = (next(f"k{n}" for n in range(99) if lane_of(f"k{n}", 2) == lane) for lane in (0, 1))
    again = Lanes(1, limits, Checkpoint(None, lanes=lanes), 0.0)
    again.add([(record(n, key=zero if n % 2 else one), True) for n in range(1, 5)], 0.0)
    again.end(0.0)
    batches = [lane.buffer.take_for_call(0.0)[0] for lane in again.all]
    assert [each.sequence_number for batch in batches for each in batch] == ["1", "3", "4"]
