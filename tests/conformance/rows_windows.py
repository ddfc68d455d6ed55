"""K.6: tumbling windows (contract B.7, C.1)."""

from __future__ import annotations

import json

from headrace.stream.functions import Response
from tests.conformance.table import BISECT, ERROR, KILLED, OK, RBIF, Answer, Row, always, script
from tests.support.world import Answered, Put, Reshard, Seen, Stop

STOPS = "it stops and starts; tests/integration/test_windows.py does"
FAILED = "PROBLEM: Function call failed"
W60 = {"tumblingWindowInSeconds": 60, "batchSize": 10}
HOLDS = "an idle window ends five seconds after its end; AWS takes up to two minutes"
NO_STATE = Answered("I", Response(200, {}, b'{"result":1}'))


def counting(*instead: Answered | None) -> Answer:
    """Gives back how many records the window had; the first calls answer as told (None: they count)."""

    def answer(seen: Seen) -> Answered:
        planned = instead[seen.index] if seen.index < len(instead) else None
        return planned or state({"n": seen.event["state"].get("n", 0) + len(seen.records)})

    return answer


def state(value: object, *failed: str, mark: str = "✓") -> Answered:
    body: dict[str, object] = {"state": value}
    if failed:
        body["batchItemFailures"] = [{"itemIdentifier": number} for number in failed]
    return Answered(mark, Response(200, {}, json.dumps(body).encode()))


def _second_fails(seen: Seen) -> Answered:
    return state({"n": 1}, seen.numbers[1], mark="P(2)") if not seen.index else counting()(seen)


LARGE = state({"s": "x" * 1_048_640})
ROWS = [
    Row(name="60", claim="a window's state travels from call to call; a later record closes it", rule="K.6, B.7",
        spec=W60, puts=(Put("1", -110.0), Put("2", -70.0), Put("3", -50.0)), answer=counting(),
        then="[1,2]✓ []✓ [3]✓ []✓", at=(0, 0, 0, 5),
        windows=("-120–-60 {}", '-120–-60 {"n":2} final', "-60–0 {}", '-60–0 {"n":1} final')),
    Row(name="60a", claim="the state of one call is the next one's", rule="B.7",
        spec={**W60, "batchSize": 1}, puts=(Put("1"), Put("2"), Put("3")), answer=counting(),
        then="[1]✓ [2]✓ [3]✓ []✓", at=(0, 0, 0, 65),
        windows=("0–60 {}", '0–60 {"n":1}', '0–60 {"n":2}', '0–60 {"n":3} final'), ours=HOLDS),
    Row(name="60b", claim="windows are aligned and half open", rule="B.7", spec=W60,
        puts=(Put("1", -60.5), Put("2", -60.0)), answer=counting(), then="[1]✓ []✓ [2]✓ []✓",
        windows=("-120–-60 {}", '-120–-60 {"n":1} final', "-60–0 {}", '-60–0 {"n":1} final'), core_only="no emulator stamps a record with a time that is told"),
    Row(name="61", claim="an answer without a state is a failure", rule="K.6, B.7",
        spec={**W60, "maximumRetryAttempts": 1}, answer=always(NO_STATE),
        then="[1]I×2 →D{RAE,1..1,n1,c2,null,win0–60}", windows=("0–60 {}", "0–60 {}"), result=None),
    Row(name="62", claim="a state over 1 MB ends its window early, in a call of its own", rule="B.7",
        spec={**W60, "batchSize": 1}, puts=(Put("1"), Put("2")), answer=counting(LARGE), then="[1]✓ []✓ [2]✓ []✓",
        windows=("0–60 {}", "0–60 large final early", "0–60 {}", '0–60 {"n":1} final'),
        ours="AWS does not say: what follows in the same time opens a window with the same bounds"),
    Row(name="63", claim="a final call that fails is retried with the same state", rule="B.7",
        spec={**W60, "maximumRetryAttempts": 1}, puts=(Put("1", -70.0),), answer=counting(None, ERROR),
        then="[1]✓ []✗ []✓", windows=("-120–-60 {}", *['-120–-60 {"n":1} final'] * 2)),
    Row(name="63a", claim="a final call given up: a failure record without records; the stream goes on", rule="B.7, C.1",
        spec={**W60, "maximumRetryAttempts": 0}, puts=(Put("1", -70.0), Put("2", -50.0)), answer=counting(None, ERROR),
        then="[1]✓ []✗ →D{RAE,final,c1,Unhandled,win-120–-60/final} [2]✓ []✓",
        windows=("-120–-60 {}", '-120–-60 {"n":1} final', "-60–0 {}", '-60–0 {"n":1} final')),
    Row(name="63b", claim="with unlimited retries a failing final call holds the shard", rule="B.7", spec=W60,
        puts=(Put("1", -70.0), Put("2", -50.0)), answer=script(state({"n": 1}), *[ERROR] * 9), then="[1]✓ []✗×4",
        at=(0, 0, 1, 3, 7), windows=("-120–-60 {}", *['-120–-60 {"n":1} final'] * 4), seconds=10, checkpoint=1,
        result=FAILED, core_only="it never comes to an end"),
    Row(name="63c", claim="the final call's answer needs no state", rule="B.7", spec=W60, puts=(Put("1", -70.0),),
        answer=counting(None, OK), then="[1]✓ []✓", windows=("-120–-60 {}", '-120–-60 {"n":1} final'),
        ours="AWS does not say; no state is kept after it"),
    Row(name="64", claim="silence closes a window, at most two minutes after its end", rule="K.6, B.7", spec=W60, answer=counting(), then="[1]✓ []✓",
        at=(0, 65), windows=("0–60 {}", '0–60 {"n":1} final'), ours=HOLDS),
    Row(name="65", claim="a retry carries the state that its first call had", rule="B.7",
        spec={**W60, "batchSize": 1}, puts=(Put("1"), Put("2")), answer=counting(None, ERROR, ERROR),
        then="[1]✓ [2]✗×2 [2]✓ []✓", windows=("0–60 {}", *['0–60 {"n":1}'] * 3, '0–60 {"n":2} final')),
    Row(name="65a", claim="halves of a window's batch go on from one another", rule="B.5, B.7",
        spec={**W60, **BISECT}, puts=(Put("1"), Put("2")), answer=counting(ERROR), then="[1,2]✗ [1]✓ [2]✓ []✓",
        windows=("0–60 {}", "0–60 {}", '0–60 {"n":1}', '0–60 {"n":2} final')),
    Row(name="65b", claim="a partial success keeps its state", rule="B.7", spec={**W60, **RBIF},
        puts=(Put("1"), Put("2"), Put("3")), answer=_second_fails, then="[1,2,3]P(2) [2,3]✓ []✓",
        windows=("0–60 {}", '0–60 {"n":1}', '0–60 {"n":3} final'),
        ours="AWS does not say: the state is that of the acknowledged records"),
    Row(name="66", claim="a restart goes on with the window", rule="B.7, B.8", spec=W60,
        puts=(Put("1"), Put("2", 7.0)), answer=counting(), stops=(Stop(3.0, 10.0),), then="[1]✓ [2]✓ []✓",
        at=(0, 10, 65), windows=("0–60 {}", '0–60 {"n":1}', '0–60 {"n":2} final'), core_only=STOPS),
    Row(name="66a", claim="a crash under a call repeats it with the same state", rule="B.7, B.8",
        spec={**W60, "batchSize": 1}, puts=(Put("1"), Put("2")), answer=counting(None, KILLED),
        stops=(Stop(2.0, 10.0, kill=True),), then="[1]✓ [2]† [2]✓ []✓",
        windows=("0–60 {}", '0–60 {"n":1}', '0–60 {"n":1}', '0–60 {"n":2} final'), core_only=STOPS),
    Row(name="66b", claim="the end of the shard closes its window", rule="B.7",
        spec=W60, shards=(Reshard("a", closes=20.0), Reshard("b", ("a",), opens=20.0)),
        puts=(Put("1", 0.0, "k", "a"), Put("2", 25.0, "k", "b")), answer=counting(), then="[1]✓ []✓ [2]✓ []✓",
        at=(0, 20, 25, 65), windows=("0–60 {}", '0–60 {"n":1} final', "0–60 {}", '0–60 {"n":1} final'),
        core_only="resharding takes an emulator seconds"),
    Row(name="66c", claim="a final call is as old as its window's start", rule="B.7",
        spec={**W60, "maximumRecordAgeInSeconds": 60}, answer=counting(),
        then="[1]✓ →D{AGE,final,c1,-,win0–60/final}", windows=("0–60 {}",), core_only="the least age is a minute"),
    Row(name="67", claim="windows go with an empty filter list", rule="K.6, V13",
        spec={**W60, "filterCriteria": {"filters": []}}, puts=(Put("1", -70.0),), answer=counting(), then="[1]✓ []✓",
        windows=("-120–-60 {}", '-120–-60 {"n":1} final')),
]  # fmt: skip
