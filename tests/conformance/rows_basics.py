"""K.1 and what B.2, B.4 and J.4 add: reading, batches, retries, what counts as an attempt."""

from __future__ import annotations

from headrace.stream.functions import Fault, NoResponse
from tests.conformance.table import (
    BISECT, ERROR, OK, TOO_LARGE, WAITS, Answered, Row, THROTTLED, UNAVAILABLE, always, body, poison, puts, reports,
    script, slow, without,
)  # fmt: skip
from tests.support.virtual import EPOCH
from tests.support.world import Put, Seen

TIMED_OUT = without(NoResponse(Fault.TIMED_OUT, "no answer"), "✗")
DROPPED = without(NoResponse(Fault.DROPPED, "broke"), "✗")
NOT_CONNECTED = without(NoResponse(Fault.NOT_CONNECTED, "refused"), "E")
ANSWER_TOO_LARGE = without(NoResponse(Fault.TOO_LARGE, "over 6 MB"), "✗")
FAULTS = "a fault of the network; tests/contract/test_http_function.py makes it over sockets"
FAILED = "PROBLEM: Function call failed"
MEGABYTE = "m" * 1_000_000
RIE_ERROR = '{"errorMessage":"boom","errorType":"ValueError"}'


def _poison_unless_first(seen: Seen) -> Answered:
    return OK if seen.index else ERROR


ROWS = [
    Row(name="1", claim="batches of BatchSize, in order", rule="K.1, B.2", spec={"batchSize": 3}, puts=puts(6),
        answer=always(OK), then="[1,2,3]✓ [4,5,6]✓"),
    Row(name="1a", claim="no records, no call", rule="B.2", puts=(), answer=always(OK), then="", checkpoint=None,
        result="No records processed"),
    Row(name="1b", claim="the last batch holds what is left", rule="B.2", spec={"batchSize": 2}, puts=puts(3),
        answer=always(OK), then="[1,2]✓ [3]✓"),
    Row(name="2", claim="a poisoned batch is tried 1 + MaximumRetryAttempts times, handed over, and the next goes on",
        rule="K.1, B.5", spec={"batchSize": 3, "maximumRetryAttempts": 2}, puts=puts(6), answer=poison(2),
        then="[1,2,3]✗×3 →D{RAE,1..3,n3,c3,Unhandled} [4,5,6]✓"),
    Row(name="3", claim="no retries: one call", rule="K.1, B.5", spec={"batchSize": 1, "maximumRetryAttempts": 0},
        puts=puts(2), answer=poison(1), then="[1]✗ →D{RAE,1..1,n1,c1,Unhandled} [2]✓"),
    Row(name="4", claim="without a destination a discard is only counted", rule="K.1, C.5",
        spec={"batchSize": 1, "maximumRetryAttempts": 1}, puts=puts(2), answer=poison(1), then="[1]✗×2 [2]✓",
        destination=None, dropped=1),
    Row(name="5", claim="unlimited retries go on until success", rule="K.1, B.5", spec={"batchSize": 1}, puts=puts(2),
        answer=script(*[ERROR] * 5), then="[1]✗×5 [1]✓ [2]✓"),
    Row(name="5a", claim="pauses double from a second", rule="B.5 (back-off unpublished)", spec={"batchSize": 1},
        answer=script(*[ERROR] * 9), then="[1]✗×9 [1]✓", at=(0, 1, 3, 7, 15, 31, 63, 123, 183, 243), seconds=300,
        core_only=WAITS, ours="AWS does not publish its back-off: full jitter, 1 s doubling to 60 s, both settable"),
    Row(name="5b", claim="the last failure is what LastProcessingResult tells", rule="A.4", answer=always(ERROR),
        then="[1]✗×6", at=(0, 1, 3, 7, 15, 31), seconds=50, checkpoint=None, result=FAILED, core_only=WAITS),
    Row(name="6", claim="throttles spend no retry", rule="K.1, B.4", spec={"maximumRetryAttempts": 1},
        answer=script(THROTTLED, THROTTLED, THROTTLED, ERROR, ERROR),
        then="[1]T×3 [1]✗×2 →D{RAE,1..1,n1,c2,Unhandled}", result=FAILED),
    Row(name="7", claim="service errors spend no retry", rule="K.1, B.4", spec={"maximumRetryAttempts": 0},
        answer=script(UNAVAILABLE, UNAVAILABLE), then="[1]E×2 [1]✓"),
    Row(name="8", claim="a service error splits nothing", rule="K.1, B.4", spec=BISECT, puts=puts(4),
        answer=script(UNAVAILABLE), then="[1..4]E [1..4]✓"),
    Row(name="8a", claim="a throttle splits nothing", rule="B.4", spec=BISECT, puts=puts(2), answer=script(THROTTLED),
        then="[1,2]T [1,2]✓"),
    Row(name="8b", claim="a throttle's Retry-After is waited for", rule="B.4", answer=script(
        body("T", "", 429, **{"retry-after": "20"})), then="[1]T [1]✓", at=(0, 20), core_only=WAITS,
        ours="the time asked for is kept, at most the longest back-off"),
    Row(name="9", claim="a function that is away discards nothing before the age does", rule="K.1, B.5",
        spec={"maximumRetryAttempts": 0, "maximumRecordAgeInSeconds": 60}, answer=always(UNAVAILABLE),
        then="[1]E×6 →D{AGE,1..1,n1,c1,-}", at=(0, 1, 3, 7, 15, 31), result="PROBLEM: HTTP 503", core_only=WAITS),
    Row(name="10", claim="a record over 6 MB alone is refused unsent, spends its retries, and the next goes on",
        rule="K.1, B.2", spec={"maximumRetryAttempts": 2}, puts=(Put("1"), Put("m" * 5_000_000), Put("3")),
        answer=always(OK), then="[1]✓ →D{RAE,2..2,n1,c3,-} [3]✓", unsent=3,
        core_only="Kinesis takes no record that large"),
    Row(name="11", claim="a batch closes at 6 MB of event, base64 counted", rule="K.1, B.2", spec={"batchSize": 100},
        puts=(Put(MEGABYTE),) * 10, answer=always(OK), then="[1..4]✓ [5..8]✓ [9,10]✓"),
    Row(name="12", claim="a window is waited for while there is room", rule="K.1, B.2",
        spec={"batchSize": 10, "maximumBatchingWindowInSeconds": 5}, puts=puts(3), answer=always(OK), then="[1,2,3]✓",
        at=(5,), core_only=WAITS),
    Row(name="12a", claim="a full batch does not wait for its window", rule="K.1, B.2",
        spec={"batchSize": 10, "maximumBatchingWindowInSeconds": 300}, puts=puts(10), answer=always(OK),
        then="[1..10]✓", at=(0,)),
    Row(name="12b", claim="the next window starts when the call before has ended", rule="B.2",
        spec={"batchSize": 10, "maximumBatchingWindowInSeconds": 5}, puts=(*puts(3), Put("4", 6.0)),
        answer=script(slow(OK, 3.0)), then="[1,2,3]✓ [4]✓", at=(5, 13), core_only=WAITS),
    Row(name="12c", claim="after an idle window the first record starts a new one", rule="L.14",
        spec={"batchSize": 10, "maximumBatchingWindowInSeconds": 5}, puts=(Put("1", 20.0), Put("2", 22.0)),
        answer=always(OK), then="[1,2]✓", at=(25,), core_only=WAITS,
        ours="AWS does not say: an idle stream's window starts with the first record"),
    Row(name="12d", claim="window 0: what is there when the lane is idle", rule="B.2", puts=(Put("1"), Put("2", 1.0),
        Put("3", 2.0)), answer=script(slow(OK, 5.0)), then="[1]✓ [2,3]✓", at=(0, 5), core_only=WAITS),
    Row(name="13", claim="a report is ignored unless asked for", rule="K.1, B.6", puts=puts(3),
        answer=lambda seen: Answered("✓", reports(2)(seen).answer), then="[1,2,3]✓"),
    Row(name="14", claim="LATEST: only what arrives after the start", rule="K.1, B.1",
        spec={"startingPosition": "LATEST"}, puts=(Put("1", -5.0), Put("2", 3.0)), answer=always(OK), then="[2]✓",
        core_only="needs a record after the start; tests/integration/test_run.py plays it",
        ours="LATEST is pinned to a time at the first start and kept over restarts"),
    Row(name="15", claim="AT_TIMESTAMP: the first record that arrived then or later", rule="K.1, B.1",
        spec={"startingPosition": "AT_TIMESTAMP", "startingPositionTimestamp": EPOCH - 10},
        puts=(Put("1", -20.0), Put("2", -10.0), Put("3", -5.0)), answer=always(OK), then="[2,3]✓",
        core_only="its time is that of the virtual clock"),
    Row(name="413", claim="413 spends a retry and splits nothing", rule="B.4", spec={"maximumRetryAttempts": 1, **BISECT},
        puts=puts(2), answer=script(TOO_LARGE, TOO_LARGE), then="[1,2]R×2 →D{RAE,1..2,n2,c2,-}", result=FAILED),
    Row(name="99 error body", claim="RIE: an error object with 200 is a function error", rule="K.9, J.2",
        spec={"maximumRetryAttempts": 1}, answer=always(body("✗", RIE_ERROR)),
        then="[1]✗×2 →D{RAE,1..1,n1,c2,Unhandled}", result=FAILED),
    Row(name="99 timeout text", claim="RIE: the text of a time-out is a function error", rule="K.9, J.2",
        spec={"maximumRetryAttempts": 0}, answer=always(body("✗", "Task timed out after 3.00 seconds")),
        then="[1]✗ →D{RAE,1..1,n1,c1,Unhandled}", result=FAILED),
    Row(name="99 busy", claim="RIE: 400 for a second call at a time is a throttle", rule="K.9, J.2",
        spec={"maximumRetryAttempts": 0}, answer=script(body("T", "", 400)), then="[1]T [1]✓",
        ours="a 400 without x-amzn-ErrorType is the emulator's"),
    Row(name="J.1 400", claim="the Invoke API's own 400 is a failure of the call", rule="J.1",
        spec={"maximumRetryAttempts": 0}, answer=always(body("✗", "{}", 400, **{"x-amzn-errortype": "InvalidRequest"})),
        then="[1]✗ →D{RAE,1..1,n1,c1,Unhandled}", result=FAILED),
    Row(name="J.4 time-out", claim="a read time-out is a function error", rule="J.4", spec={"maximumRetryAttempts": 0},
        answer=always(TIMED_OUT), then="[1]✗ →D{RAE,1..1,n1,c1,Unhandled}", result=FAILED, core_only=FAULTS),
    Row(name="J.4 process exit", claim="a new connection that breaks under a call is a function error", rule="J.4, B.4",
        spec={"maximumRetryAttempts": 0}, answer=always(DROPPED), then="[1]✗ →D{RAE,1..1,n1,c1,Unhandled}",
        result=FAILED, core_only=FAULTS, ours="a kept connection that breaks unanswered counts as not invoked"),
    Row(name="J.4 no connection", claim="no connection spends no retry", rule="J.4, B.4",
        spec={"maximumRetryAttempts": 0}, answer=script(NOT_CONNECTED, NOT_CONNECTED), then="[1]E×2 [1]✓",
        core_only=FAULTS),
    Row(name="J.4 answer over 6 MB", claim="an answer over 6 MB is a function error", rule="J.1",
        spec={"maximumRetryAttempts": 0}, answer=always(ANSWER_TOO_LARGE),
        then="[1]✗ →D{RAE,1..1,n1,c1,Unhandled}", result=FAILED, core_only=FAULTS),
    *[Row(name=f"J.4 {status}", claim=f"{status} spends no retry", rule="J.4", spec={"maximumRetryAttempts": 0},
          answer=script(body("E", "", status)), then="[1]E [1]✓") for status in (404, 502, 503, 504)],
    Row(name="J.4 http 500", claim="plain HTTP: 500 and 400 are function errors", rule="J.4",
        spec={"maximumRetryAttempts": 1}, answer=script(body("✗", "", 500), body("✗", "", 400)),
        then="[1]✗×2 →D{RAE,1..1,n1,c2,Unhandled}", protocol="http", result=FAILED),
    Row(name="J.4 http text", claim="plain HTTP: any 2xx body is success", rule="J.4",
        spec={"maximumRetryAttempts": 0}, answer=always(body("✓", "fine")), then="[1]✓", protocol="http"),
    Row(name="B.4 handled", claim="a handled error is told as Handled", rule="C.1", spec={"maximumRetryAttempts": 0},
        answer=always(body("✗", "{}", 200, **{"x-amz-function-error": "Handled"})),
        then="[1]✗ →D{RAE,1..1,n1,c1,Handled}", result=FAILED),
    Row(name="B.4 recovers", claim="a batch that recovers is handed nowhere", rule="B.5",
        spec={"maximumRetryAttempts": 1}, puts=puts(2), answer=_poison_unless_first, then="[1,2]✗ [1,2]✓"),
]  # fmt: skip
