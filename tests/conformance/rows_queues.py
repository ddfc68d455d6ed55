"""Queues: F.1 to F.3, C, D.3, E.3 and K.8, each row exactly what is called, deleted, left and given to dead letters.

Messages are numbered as they are sent. `→DLQ{1}` is a message that the queue's redrive policy took.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from headrace.stream.functions import Fault, NoResponse, Response
from tests.conformance.table import RBIF
from tests.support.fake_queue import Answering, CalledWith, Life, Sent, away, error, ok, partly, throttle

PARTS = {"batchSize": 10, **RBIF}
HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class QueueRow:
    """One behaviour of a queue's mapping."""

    name: str
    claim: str
    rule: str
    answer: Sequence[Answering] | Answering
    """One for all calls, or one for each, the last for all that follow."""
    then: str
    sent: Sequence[Sent] = field(default_factory=lambda: messages(1))
    spec: Mapping[str, Any] = field(default_factory=dict)
    fifo: bool = False
    visibility: float = 30.0
    max_receives: int | None = None
    at: Sequence[float] = ()
    """Seconds from the start of each call, where they are part of the claim; receives begin at once."""
    receives: Sequence[int] = ()
    """The highest ApproximateReceiveCount of each call, where it is part of the claim."""
    left: str = ""
    """Messages that are still in the queue at the end."""
    filtered: int = 0
    failed: int | None = None
    """FailedInvokeEventCount."""
    in_flight: int | None = None
    lives: Sequence[Life] = (Life(100),)
    side_by_side: bool = False
    """Calls of different groups come in any order."""
    ours: str = ""
    outside: str = ""
    """The test that plays it with `headrace run` on ministack."""


def messages(count: int, at: float = 0.0, group: str = "") -> tuple[Sent, ...]:
    return tuple(Sent(str(number), at, group) for number in range(1, count + 1))


def bodies(*texts: str) -> tuple[Sent, ...]:
    return tuple(Sent(text) for text in texts)


def each(count: int, groups: str) -> tuple[Sent, ...]:
    """Messages of these groups in turn."""
    return tuple(Sent(str(number), 0.0, groups[number % len(groups)]) for number in range(count))


def body(text: str) -> Answering:
    """An answer with this body."""
    return lambda _: ("I", Response(200, {}, text.encode()), 0.0)


def named(*ids: str) -> Answering:
    return lambda _: partly(ids)


def poison(*ids: str) -> Answering:
    """Fails if and only if one of these messages is there."""
    return lambda call: error(call) if set(ids) & set(call.ids) else ok(call)


def crash(_: CalledWith) -> tuple[str, NoResponse, float]:
    return "†", NoResponse(Fault.DROPPED, "it hung up"), 0.0


def times_out(_: CalledWith) -> tuple[str, NoResponse, float]:
    return "†", NoResponse(Fault.TIMED_OUT, "no answer"), 10.0


def wanted(pattern: object) -> dict[str, Any]:
    return {"filterCriteria": {"filters": [{"pattern": json.dumps(pattern)}]}}


def invalid(name: str, claim: str, text: str) -> QueueRow:
    return QueueRow(
        name=name, claim=claim, rule="F.2, K.8", sent=messages(2), spec=PARTS, answer=[body(text), ok],
        then="[1,2]I [1,2]✓", receives=(1, 2), at=(0, 30), failed=2, outside="deletes_nothing",
    )  # fmt: skip


def whole(name: str, claim: str, text: str) -> QueueRow:
    return QueueRow(
        name=name, claim=claim, rule="F.2", sent=messages(2), spec=PARTS, answer=body(text), then="[1,2]I", failed=0
    )


QUEUE_ROWS = [
    QueueRow(name="76", claim="three messages in one call, then deleted", rule="F.1, K.8", sent=messages(3), answer=ok,
        then="[1,2,3]✓", failed=0, outside="messages_come_in_one_call"),
    QueueRow(name="76a", claim="ten messages a call unless the mapping says how many", rule="A.1, F.1",
        sent=messages(15), answer=ok, then="[1..10]✓ [11..15]✓", side_by_side=True),
    QueueRow(name="77", claim="a function error: again once the visibility timeout is over, then to the dead letters",
        rule="F.1, K.8", visibility=8, max_receives=2, answer=error, then="[1]✗ [1]✗ →DLQ{1}", at=(0, 8),
        receives=(1, 2), failed=2, outside="ends_in_the_dead_letter_queue"),
    QueueRow(name="77a", claim="a failed batch deletes none of its messages", rule="F.1", sent=messages(3),
        answer=[poison("2"), ok], then="[1,2,3]✗ [1,2,3]✓", at=(0, 30), receives=(1, 2), failed=3),
    QueueRow(name="77b", claim="a function that dies, or takes too long, has failed", rule="F.1, B.4",
        answer=[crash, times_out, ok], then="[1]†×2 [1]✓", receives=(1, 2, 3), failed=2),
    QueueRow(name="77c", claim="no retries, age or destination of the mapping's own: only the queue's policy ends it",
        rule="F.1", visibility=5, max_receives=5, answer=error, then="[1]✗×5 →DLQ{1}", receives=(1, 2, 3, 4, 5)),
    QueueRow(name="78", claim="of a partial answer the named stay, the others are deleted", rule="F.2",
        sent=messages(4), spec=PARTS, answer=[named("2", "3"), ok], then="[1,2,3,4]P(2,3) [2,3]✓", at=(0, 30),
        receives=(1, 2), failed=2, outside="partial_answer"),
    QueueRow(name="78a", claim="all of them named: none is deleted", rule="F.2", sent=messages(2), spec=PARTS,
        answer=[named("1", "2"), ok], then="[1,2]P(1,2) [1,2]✓", receives=(1, 2), failed=2),
    QueueRow(name="78b", claim="without ReportBatchItemFailures the answer is not looked at", rule="A.1, F.2",
        sent=messages(2), answer=named("1"), then="[1,2]P(1)", failed=0),
    QueueRow(name="78c", claim="a function error beside a partial answer: nothing is deleted", rule="F.2",
        sent=messages(2), spec=PARTS,
        answer=[lambda _: ("✗", Response(200, {"x-amz-function-error": "Unhandled"}, b'{"batchItemFailures":[]}'), 0.0), ok],
        then="[1,2]✗ [1,2]✓", receives=(1, 2), failed=2),
    QueueRow(name="78d", claim="the recorded run of a FIFO queue: what is named comes again, and ends in the dead letters",
        rule="F.2 (recorded)", fifo=True, sent=messages(4, group="a"), spec=PARTS, max_receives=2,
        answer=[named("2", "3", "4"), named("4")], then="[1,2,3,4]P(2,3,4) [2,3,4]P(4) →DLQ{4}", receives=(1, 2)),
    whole("79 null", "null deletes all", "null"),
    whole("79 {}", "an empty object deletes all", "{}"),
    whole("79 no key", "an object without batchItemFailures deletes all", '{"other":1}'),
    whole("79 null list", "a null list deletes all", '{"batchItemFailures":null}'),
    whole("79 empty", "an empty list deletes all", '{"batchItemFailures":[]}'),
    invalid("79", "an unknown id fails the whole batch", '{"batchItemFailures":[{"itemIdentifier":"nobody"}]}'),
    invalid("79 foo", "a misspelt member fails the whole batch", '{"batchItemFailures":[{"foo":"1"}]}'),
    invalid("79 object", "a list that is none fails the whole batch", '{"batchItemFailures":{}}'),
    invalid('79 ""', "an empty id fails the whole batch", '{"batchItemFailures":[{"itemIdentifier":""}]}'),
    invalid("79 id null", "a null id fails the whole batch", '{"batchItemFailures":[{"itemIdentifier":null}]}'),
    invalid("79 number", "a number for an id fails the whole batch", '{"batchItemFailures":[{"itemIdentifier":1}]}'),
    invalid("79 mixed", "one unknown id beside a known one fails the whole batch",
        '{"batchItemFailures":[{"itemIdentifier":"1"},{"itemIdentifier":"nobody"}]}'),
    QueueRow(name="79 [{}]", claim="an entry without a member fails the whole batch", rule="F.2 (U: L.7)",
        ours="AWS once took it for a success; the documented reading is a failure", sent=messages(2), spec=PARTS,
        answer=[body('{"batchItemFailures":[{}]}'), ok], then="[1,2]I [1,2]✓", receives=(1, 2), failed=2),
    QueueRow(name="79 text", claim="what is no JSON fails the whole batch", rule="F.2", sent=messages(2),
        spec=PARTS | {"function": {"url": "http://f", "timeoutSeconds": 10, "protocol": "http"}},
        answer=[body("no JSON"), ok], then="[1,2]I [1,2]✓", receives=(1, 2), failed=2),
    QueueRow(name="80", claim="a group's calls one after the other, each once the one before is deleted", rule="F.3, K.8",
        fifo=True, sent=messages(3, group="a"), spec={"batchSize": 1}, answer=partial(ok, takes=5.0),
        then="[1]✓ [2]✓ [3]✓", at=(0, 5, 10), in_flight=1, outside="one_batch_is_in_flight"),
    QueueRow(name="80a", claim="groups side by side", rule="F.3", fifo=True, sent=each(6, "abc"), spec={"batchSize": 1},
        answer=partial(ok, takes=5.0), then="[1]✓…[6]✓", in_flight=3, side_by_side=True),
    QueueRow(name="80b", claim="a batch may mix groups, in order", rule="F.3", fifo=True, sent=each(4, "ab"), answer=ok,
        then="[1,2,3,4]✓"),
    QueueRow(name="81", claim="what follows a failed message waits for it; other groups go on", rule="F.3", fifo=True,
        sent=(Sent("a1", 0, "a"), Sent("b1", 1, "b"), Sent("a2", 2, "a"), Sent("b2", 3, "b")), spec={"batchSize": 1},
        answer=[error, ok], then="[1]✗ [2]✓ [4]✓ [1]✓ [3]✓", at=(0, 1, 3, 30, 30), receives=(1, 1, 1, 2, 1)),
    QueueRow(name="81a", claim="a failed message that leaves for the dead letters lets its group go on", rule="F.3",
        fifo=True, sent=messages(2, group="a"), spec={"batchSize": 1}, max_receives=2, answer=poison("1"),
        then="[1]✗×2 [2]✓ →DLQ{1}", receives=(1, 2, 1)),
    QueueRow(name="82", claim="never more calls than MaximumConcurrency", rule="F.4, K.8", sent=messages(100),
        spec={"batchSize": 1, "scalingConfig": {"maximumConcurrency": 2}}, answer=partial(ok, takes=0.1),
        then="[1]✓…[100]✓", in_flight=2, side_by_side=True, outside="maximum_concurrency"),
    QueueRow(name="82a", claim="five calls at first, twice as many after each round", rule="F.4", sent=messages(35),
        spec={"batchSize": 1}, answer=partial(ok, takes=1.0), then="[1]✓…[35]✓", in_flight=20, side_by_side=True,
        ours="AWS adds 300 a minute"),
    QueueRow(name="83", claim="throttled for longer than the visibility timeout: held, and received once", rule="F.1, K.8",
        ours="AWS gives the messages back: each throttled receive counts", spec={"batchSize": 1},
        answer=lambda call: ok(call) if call.at > 120 else throttle(call), lives=(Life(300),),
        then="[1]T×… [1]✓", receives=(1,), outside="held_for_longer"),
    QueueRow(name="83a", claim="out of reach for hours: held, and received once", rule="F.1",
        ours="AWS gives the messages back", spec={"batchSize": 1}, lives=(Life(5 * HOUR),),
        answer=lambda call: ok(call) if call.at > 4 * HOUR else away(call), then="[1]E×… [1]✓", receives=(1,)),
    QueueRow(name="83b", claim="a call longer than the visibility timeout is not made twice", rule="F.1",
        ours="AWS refuses such a mapping (V22)", visibility=5, spec={"function": {"url": "http://f", "timeoutSeconds": 60}},
        answer=partial(ok, takes=40.0), then="[1]✓", receives=(1,), outside="not_made_twice"),
    QueueRow(name="84", claim="more than ten messages a call, over several receives", rule="F.1, K.8", sent=messages(15),
        spec={"batchSize": 15, "maximumBatchingWindowInSeconds": 1}, answer=ok, then="[1..15]✓", at=(0,),
        outside="window_fills"),
    QueueRow(name="84a", claim="a window closes a batch that is not full", rule="B.2, F.1",
        sent=(*messages(2), Sent("3", 3)), spec={"batchSize": 15, "maximumBatchingWindowInSeconds": 5}, answer=ok,
        then="[1,2,3]✓", at=(5,)),
    QueueRow(name="84b", claim="full batches one after the other, the rest when its window closes", rule="F.1",
        sent=messages(40), spec={"batchSize": 15, "maximumBatchingWindowInSeconds": 5}, answer=ok,
        then="[1..15]✓ [16..30]✓ [31..40]✓"),
    QueueRow(name="84c", claim="an event of 6 MB at most: a batch may be smaller than its size", rule="F.1",
        sent=tuple(Sent("x" * 1_000_000) for _ in range(8)), answer=ok, then="[1..6]✓ [7,8]✓"),
    QueueRow(name="70", claim="a JSON pattern: what is no JSON is deleted without a call", rule="E.2, E.3, K.7",
        sent=bodies('{"t":"y"}', "text", '{"t":"n"}', '{"t":"y"}'), spec=wanted({"body": {"t": ["y"]}}), answer=ok,
        then="[1,4]✓", filtered=2, outside="no_filter_matches"),
    QueueRow(name="70a", claim="a pattern of plain text", rule="E.2", sent=bodies("stop", "go", '{"t":"stop"}'),
        spec=wanted({"body": ["stop"]}), answer=ok, then="[1]✓", filtered=2),
    QueueRow(name="70b", claim="nothing matches: no call, and nothing is left", rule="E.3", sent=bodies("a", "b"),
        spec=wanted({"body": ["c"]}), answer=ok, then="", filtered=2),
    QueueRow(name="70c", claim="attributes of a message can be asked for", rule="E.1", sent=messages(2), answer=ok,
        spec=wanted({"attributes": {"SenderId": ["me"]}, "messageId": ["2"]}), then="[2]✓", filtered=1),
    QueueRow(name="56", claim="stopped during a call: it ends and counts; what waits is there for whoever comes next",
        rule="F.1, B.8", ours="AWS leaves what waits hidden", sent=messages(3), visibility=600,
        spec={"batchSize": 1, "scalingConfig": {"maximumConcurrency": 2}}, answer=partial(ok, takes=4.0),
        lives=(Life(2), Life(60)), then="[1]✓ [2]✓ [3]✓", receives=(1, 1, 2), outside="a_stop_finishes"),
    QueueRow(name="49", claim="killed during a call: again once the visibility timeout is over", rule="B.8, F.1",
        answer=[partial(ok, takes=5.0), ok], lives=(Life(2, kill=True), Life(60)), then="[1]† [1]✓", receives=(1, 2),
        at=(0, 30), outside="no_message_is_lost"),
]  # fmt: skip
