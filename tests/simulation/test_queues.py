"""A mapping of a queue in virtual time, against a queue that hides, locks and redrives as SQS does."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import pytest

from headrace.errors import Reason, SourceError
from headrace.stream.events import ConditionObserved, Faulted, ReceiptsExpired, RecordsFiltered, RecordsPolled
from headrace.stream.functions import NoResponse, Response
from headrace.stream.membership import Alone
from tests.support.fake_queue import (
    Answering,
    CalledWith,
    Life,
    QueueWorld,
    Sent,
    away,
    error,
    ok,
    throttle,
    unreachable_queue,
)

ONE = {"batchSize": 1}


def sent(count: int, group: str = "", at: float = 0.0) -> list[Sent]:
    return [Sent(str(number), at, group) for number in range(1, count + 1)]


def gateway(_: CalledWith) -> tuple[str, Response | NoResponse, float]:
    return "E", Response(503, {}, b""), 0.05


def test_groups_are_called_side_by_side_although_a_receive_brings_ten_messages_of_one() -> None:
    """F.3: concurrency is bounded by the groups there are, not by which of them a receive brought first."""
    messages = [one for group in "abcde" for one in sent(10, group)]
    world = QueueWorld(messages, partial(ok, takes=1.0), ONE, fifo=True)
    world.play(Life(14))
    assert len(world.calls) == 50
    assert world.most_in_flight == 5
    assert max(call.until for call in world.calls) < 13


def test_what_waits_is_given_back_at_the_stop_while_the_calls_in_flight_go_on() -> None:
    world = QueueWorld(
        sent(20), partial(ok, takes=9.0), ONE | {"scalingConfig": {"maximumConcurrency": 2}}, visibility=600
    )
    seen: list[tuple[int, int]] = []
    world.queue.fault = lambda operation: (
        seen.append((len(world.queue.hidden), world.in_flight)) if operation == "facts" else None
    )
    world.play(Life(3))
    given_back = [at for at, operation, _ in world.queue.operations if operation == "give back"]
    assert given_back
    assert max(given_back) < 3 + 4.1, "only receives under way are waited for"
    assert len(world.calls) == 2
    assert len(world.queue.lying) == len(world.queue.visible) == 18


def test_a_run_that_is_cut_short_begins_no_call_more() -> None:
    """What it held comes again when its visibility is over."""
    world = QueueWorld(sent(20), partial(ok, takes=9.0), ONE | {"scalingConfig": {"maximumConcurrency": 2}})
    world.play(Life(3, kill=True), Life(200))
    assert [call.mark for call in world.calls[:3]] == ["†", "†", "✓"]
    again = [call.at for call in world.calls[2:] if call.ids in {one.ids for one in world.calls[:2]}]
    assert min(again) > 3 + 20
    assert world.queue.lying == []
    assert not [event for event in world.events if isinstance(event, Faulted)]


def test_a_message_that_fails_after_a_long_call_comes_again_no_later_than_the_queue_would_have_it() -> None:
    world = QueueWorld(sent(1), partial(error, takes=8.0), ONE, visibility=5)
    world.play(Life(60))
    assert len(world.calls) >= 4
    assert all(0 < later.at - call.until <= 5.5 for call, later in pairwise(world.calls))


def test_a_message_that_is_never_taken_costs_itself_and_no_other() -> None:
    """A gateway answers 503 for it alone: promise 4, of queues."""

    def answer(call: CalledWith) -> tuple[str, Response | NoResponse, float]:
        return gateway(call) if "3" in call.ids else ok(call, 0.05)

    messages = [Sent(str(number), float(number)) for number in range(1, 301)]
    world = QueueWorld(messages, answer, ONE)
    world.play(Life(360, kill=True))
    waited = [call.at - world.sent[int(call.ids[0]) - 1].at for call in world.calls if call.ids != ("3",)]
    assert len(waited) == 299
    assert max(waited) < 1
    assert len([call for call in world.calls if call.ids == ("3",)]) < 20, "it keeps its growing pauses"


class Reporting(Alone):
    """Keeps what was told last of the calls that this poller needs a share for."""

    needed = 0

    def __init__(self) -> None:
        super().__init__()
        self.told: list[int] = []

    def report_calls(self, in_flight: int) -> None:
        self.needed = in_flight
        self.told.append(in_flight)


def test_a_batch_that_waits_for_its_own_sake_needs_no_share_of_the_calls_but_while_it_is_called() -> None:
    """The other pollers' shares of maximumConcurrency are theirs."""
    members, needed = Reporting(), []

    def answer(call: CalledWith) -> tuple[str, Response | NoResponse, float]:
        needed.append((call.ids, members.needed))
        return gateway(call) if call.ids[0] in {"1", "2", "3"} else ok(call, 0.05)

    messages = [Sent(str(number), float(number)) for number in range(1, 261)]
    world = QueueWorld(messages, answer, ONE, membership=members)
    world.play(Life(270, kill=True))
    assert {int(call.ids[0]) for call in world.calls} == set(range(1, 261)), "though the first three fail"
    assert {count for ids, count in needed if int(ids[0]) > 200} <= {1, 2, 3, 4}
    assert [count for ids, count in needed if int(ids[0]) > 200].count(1) > 50
    assert world.in_flight == 0
    assert members.needed == 0


def test_a_batch_of_which_it_is_not_known_why_it_fails_needs_no_share_either() -> None:
    members, until = Reporting(), list[int]()

    def answer(call: CalledWith) -> tuple[str, Response | NoResponse, float]:
        until.append(len(members.told))
        return gateway(call)

    world = QueueWorld(sent(1), answer, ONE, membership=members)
    world.play(Life(100, kill=True))
    assert len(until) > 3
    assert all(0 in members.told[before:then] for before, then in pairwise(until))


def test_the_age_that_is_told_grows_while_a_message_fails_again_and_again() -> None:
    world = QueueWorld(sent(1), error, ONE)
    world.play(Life(100, kill=True))
    received_nothing = [one for one in world.events if isinstance(one, RecordsPolled) and not one.count]
    assert [round(one.behind) for one in received_nothing] == [20, 50, 80]


@pytest.mark.parametrize(
    ("failing", "called"),
    [(away, {"1", "2"}), (gateway, {"1", "2", "3", "4", "5"})],
    ids=["no connection", "a gateway answers"],
)
def test_a_function_that_is_away_is_given_what_was_on_its_way_and_where_a_gateway_answers_one_more_a_minute(
    failing: Answering, called: set[str]
) -> None:
    messages = [Sent(str(number), float(number)) for number in range(1, 101)]
    world = QueueWorld(messages, lambda call: failing(call) if call.at < 200 else ok(call), ONE)
    world.play(Life(400))
    assert {one for call in world.calls if call.at < 200 for one in call.ids} == called
    assert {call.receives for call in world.calls} == {(1,)}
    assert len(world.queue.deleted) == 100


@pytest.mark.parametrize("end", [1.5, 2.5, 3.5])
@pytest.mark.parametrize("takes", [0.0, 0.02, 0.2])
def test_what_waits_at_a_stop_is_given_back_once_no_receive_of_our_own_can_take_it(end: float, takes: float) -> None:
    world = QueueWorld(sent(1), partial(throttle, takes=takes), ONE, visibility=600, max_receives=5)
    world.play(Life(end))
    assert [one.receives for one in world.queue.lying] == [1]
    assert world.queue.visible


def test_a_pause_that_is_asked_for_is_kept_up_to_the_longest_back_off() -> None:
    asks = ("T", Response(429, {"retry-after": "86400"}, b""), 0.0)
    world = QueueWorld(sent(1), lambda call: ok(call) if call.at > 1 else asks, ONE)
    world.play(Life(100))
    assert world.calls[1].at == pytest.approx(60, abs=1)


@pytest.mark.parametrize(("messages", "fifo"), [(1, True), (1, False), (2_600, False)])
def test_a_stop_waits_no_longer_for_deletes_that_are_refused(messages: int, fifo: bool) -> None:
    """Whatever their visibility; what is not deleted comes again after it."""
    world = QueueWorld(sent(messages, "a" * fifo), ok, {"batchSize": 10}, fifo=fifo, visibility=600)
    world.queue.fault = lambda operation: unreachable_queue() if operation == "delete" else None
    world.play(Life(20))
    assert world.calls
    assert world.ended[0] < 20 + 4 + 11
    assert len(world.queue.lying) == messages


def test_a_mapping_in_provisioned_mode_begins_with_all_calls_of_its_least_pollers() -> None:
    pollers = {"provisionedPollerConfig": {"minimumPollers": 2, "maximumPollers": 3}}
    world = QueueWorld(sent(400), partial(ok, takes=1.0), ONE | pollers)
    world.play(Life(30))
    began = world.calls[0].at
    assert sum(call.at < began + 0.5 for call in world.calls) == 20
    assert world.most_in_flight == 30


def test_more_time_that_is_refused_is_asked_for_less_and_less_often() -> None:
    """A role made for Lambda has no right to ChangeMessageVisibility."""
    window = {"batchSize": 10_000, "maximumBatchingWindowInSeconds": 50}
    world = QueueWorld(sent(1_000), partial(ok, takes=8.0), window)
    denied = SourceError(Reason.ACCESS_DENIED, "allow it")
    world.queue.fault = lambda operation: denied if operation == "hold" else None
    world.play(Life(58, kill=True))
    asked = [at for at, operation, _ in world.queue.operations if operation == "hold"]
    assert 1 < len(asked) < 100
    told = [one for one in world.events if isinstance(one, ConditionObserved) and one.reason is Reason.ACCESS_DENIED]
    assert 1 < len(told) < 9, "not each second"


def test_of_a_group_whose_first_message_has_lapsed_nothing_is_called_before_it() -> None:
    """F.3: the queue takes no request for more time for it."""
    world = QueueWorld(
        sent(3, "a"), lambda call: throttle(call) if call.at < 40 else ok(call), fifo=True, visibility=30
    )
    world.queue.refuse = lambda operation, message_id: operation == "hold" and message_id == "1"
    world.play(Life(120))
    done = [one for call in world.calls if call.mark == "✓" for one in call.ids]
    assert done == ["1", "2", "3"]


def test_a_message_that_a_filter_of_json_cannot_read_is_named_when_it_is_deleted() -> None:
    filters = {"filterCriteria": {"filters": [{"pattern": '{"body": {"kind": ["order"]}}'}]}}
    bodies = ['{"kind": "order"}', "no JSON", '{"kind": "refund"}']
    world = QueueWorld([Sent(body) for body in bodies], spec=filters)
    world.play(Life(5, kill=True))
    assert [event for event in world.events if isinstance(event, RecordsFiltered)] == [
        RecordsFiltered("orders", 2, ("2",))
    ]


def test_a_throttle_now_and_then_does_not_hold_up_what_the_function_can_take() -> None:
    """A function that takes ten at a time, and answers an eleventh with 429, is kept busy."""

    def answer(call: CalledWith) -> object:
        return throttle(call) if world.in_flight > 10 else ok(call, 0.1)

    world = QueueWorld(sent(2_000), answer, ONE)  # type: ignore[arg-type]
    world.play(Life(60))
    assert len(world.queue.deleted) == 2_000
    assert max(call.until for call in world.calls) < 1.5 * 2_000 * 0.1 / 10
    assert {call.receives for call in world.calls} == {(1,)}


def test_throttles_spend_no_attempt_and_a_receive_anew_does() -> None:
    """Decision 9: Headrace-Attempt counts what counts. Of a message those are its receives."""
    answers: Iterator[Answering] = iter([throttle, away, error, throttle, ok])
    world = QueueWorld(sent(1), lambda call: next(answers)(call), ONE, visibility=10)  # noqa: PLW0108 - one each time
    world.play(Life(60))
    assert [(call.mark, call.attempt) for call in world.calls] == [("T", 1), ("E", 1), ("✗", 1), ("T", 2), ("✓", 2)]
    assert len({call.request_id for call in world.calls}) == 1


def test_while_nothing_can_be_called_messages_are_held_and_no_more_are_received() -> None:
    """Row 83, as this project has it: for an hour, with a visibility timeout of half a minute."""
    world = QueueWorld(sent(500), lambda call: throttle(call) if world.clock.now < 3600 else ok(call), ONE)
    world.play(Life(4200))
    assert len(world.queue.deleted) == 500
    assert {call.receives for call in world.calls} == {(1,)}
    received = [at for at, operation, _ in world.queue.operations if operation == "receive" and 10 < at < 3600]
    assert received == []


def test_what_is_held_beyond_twelve_hours_lapses_and_is_called_once_it_is_received_anew() -> None:
    hours = 3600.0
    world = QueueWorld(sent(1), lambda call: away(call) if world.clock.now < 13 * hours else ok(call), ONE)
    world.play(Life(14 * hours))
    assert world.calls[-1].mark == "✓"
    assert world.calls[-1].receives == (2,)
    assert world.queue.lying == []


@pytest.mark.parametrize("fifo", [False, True])
def test_a_delete_that_fails_is_tried_again_and_the_message_stays_hidden_meanwhile(fifo: bool) -> None:
    world = QueueWorld(sent(3, "a" if fifo else ""), ok, ONE, fifo=fifo, visibility=5)
    world.queue.fault = lambda operation: (
        unreachable_queue() if operation == "delete" and world.clock.now < 60 else None
    )
    world.play(Life(120))
    assert [call.ids for call in world.calls] == [("1",), ("2",), ("3",)]
    assert world.queue.lying == []


@pytest.mark.parametrize("fifo", [False, True])
def test_a_part_of_a_delete_that_fails_is_tried_again(fifo: bool) -> None:
    refused: list[str] = []

    def refuse(operation: str, message_id: str) -> bool:
        if operation == "delete" and message_id == "2" and len(refused) < 3:
            refused.append(message_id)
            return True
        return False

    world = QueueWorld(sent(3, "a" if fifo else ""), ok, fifo=fifo)
    world.queue.refuse = refuse
    world.play(Life(30))
    assert world.seen == [(("1", "2", "3"), "✓")]
    assert sorted(one for _, one in world.queue.deleted) == ["1", "2", "3"]


def test_a_message_that_comes_again_during_its_call_is_called_once_and_deleted_by_its_newer_receipt() -> None:
    """The queue takes no request for more time, so that what is in flight lapses and is received anew."""
    world = QueueWorld(sent(1), partial(ok, takes=8.0), visibility=5)
    world.queue.fault = lambda operation: unreachable_queue() if operation == "hold" else None
    world.play(Life(60))
    assert world.seen == [(("1",), "✓")]
    assert world.queue.lying == []


def test_what_is_done_with_too_late_is_told_and_comes_again() -> None:
    """Nothing can be asked of the queue for a minute but what is received after it."""
    world = QueueWorld(sent(1), partial(ok, takes=2.0), visibility=5)
    world.queue.fault = lambda operation: unreachable_queue() if 1 < world.clock.now < 60 else None
    world.play(Life(120))
    assert [call.receives for call in world.calls] == [(1,), (2,)]
    assert [event.count for event in world.events if isinstance(event, ReceiptsExpired)] == [1]
    assert world.queue.lying == []


def reachable_over_time(world: QueueWorld, until: float) -> list[tuple[float, str]]:
    """What `SourceReachable` was, whenever the queue was looked at."""
    shown: list[tuple[float, str]] = []
    meets = world.queue.fault

    def fault(operation: str) -> BaseException | None:
        if operation == "facts":
            status = next(one.status for one in world.health.conditions() if one.type == "SourceReachable")
            shown.append((world.clock.now, status))
        return meets(operation)

    world.queue.fault = fault
    world.play(Life(until))
    return shown


def test_denied_requests_for_more_time_show_until_they_are_allowed() -> None:
    """The condition does not go to and fro with what other requests meet."""
    world = QueueWorld(sent(1), partial(ok, takes=200.0), {"function": {"url": "http://f", "timeoutSeconds": 900}})
    denied = SourceError(Reason.ACCESS_DENIED, "allow it")
    world.queue.fault = lambda operation: denied if operation == "hold" and world.clock.now < 100 else None
    shown = reachable_over_time(world, 190)
    assert {status for at, status in shown if 30 < at < 100} == {"False"}
    assert {status for at, status in shown if at > 130} == {"True"}


def test_a_request_that_failed_once_and_is_not_needed_again_does_not_show_for_ever() -> None:
    world = QueueWorld(sent(1), partial(ok, takes=20.0), {"function": {"url": "http://f", "timeoutSeconds": 900}})
    world.queue.fault = lambda operation: unreachable_queue() if operation == "hold" else None
    shown = reachable_over_time(world, 190)
    assert {status for at, status in shown if at > 100} == {"True"}


def test_a_failed_head_is_called_again_before_what_was_received_with_it() -> None:
    failures = iter([error, error])
    world = QueueWorld(
        sent(5, "a"),
        lambda call: next(failures, ok)(call) if call.ids == ("1",) else ok(call),
        ONE,
        fifo=True,
        visibility=10,
    )
    world.play(Life(90))
    assert [call.ids[0] for call in world.calls] == ["1", "1", "1", "2", "3", "4", "5"]
    assert world.calls[1].at - world.calls[0].at >= 10


def test_what_waits_behind_a_failed_message_is_not_called_before_it() -> None:
    """Four slow calls have all there is; meanwhile a batch comes together whose last group goes on behind it."""
    slow = [Sent(group, at / 10, group) for at, group in enumerate("wxyz")]
    messages = [*slow, Sent("a1", 2.0, "a"), *(Sent(f"b{number}", 4.0, "b") for number in (1, 2, 3))]
    spec = {"batchSize": 3, "scalingConfig": {"maximumConcurrency": 4}}
    failed: list[CalledWith] = []

    def answer(call: CalledWith) -> tuple[str, Response | NoResponse, float]:
        if "6" in call.ids and not failed:
            failed.append(call)
            return error(call)
        return ok(call, 9.0)

    world = QueueWorld(messages, answer, spec, fifo=True, visibility=20)
    world.play(Life(120))
    of_b = [one for call in world.calls for one in call.ids if one in {"6", "7", "8"}]
    assert failed
    assert of_b == ["6", "7", "6", "7", "8"]


def test_a_head_that_leaves_for_the_dead_letter_queue_lets_its_group_go_on() -> None:
    world = QueueWorld(
        sent(3, "a"),
        lambda call: error(call) if "1" in call.ids else ok(call),
        ONE,
        fifo=True,
        visibility=10,
        max_receives=2,
    )
    world.play(Life(90))
    assert [call.ids[0] for call in world.calls] == ["1", "1", "2", "3"]
    assert [one.id for one in world.queue.dead] == ["1"]


def test_an_idle_queue_costs_three_receives_a_minute() -> None:
    world = QueueWorld([])
    world.play(Life(630))
    received = [at for at, operation, _ in world.queue.operations if operation == "receive" and at >= 30]
    assert len(received) <= 3 * 10
