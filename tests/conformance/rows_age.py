"""K.4: the age of records (contract B.5)."""

from __future__ import annotations

from tests.conformance.table import BISECT, ERROR, OK, WAITS, Row, always, poison, script, slow
from tests.support.world import Put

AGE_60 = {"maximumRecordAgeInSeconds": 60}
OLD = "its records are older than the test; an emulator stamps them when they are put"

ROWS = [
    Row(name="36", claim="a record that is too old before any call is handed over uncalled", rule="K.4, B.5",
        spec={**AGE_60, "maximumRetryAttempts": 0}, puts=(Put("1", -80.0),), answer=always(OK),
        then="→D{AGE,1..1,n1,c1,-}", result="No records processed", core_only=OLD),
    Row(name="36a", claim="only what is too old leaves its batch", rule="B.5", spec={**AGE_60, "batchSize": 10},
        puts=(Put("1", -80.0), *(Put(str(n), -5.0) for n in range(2, 7))), answer=always(OK),
        then="→D{AGE,1..1,n1,c1,-} [2..6]✓", core_only=OLD),
    Row(name="36b", claim="without a destination it is only counted", rule="B.5, C.5", spec=AGE_60,
        puts=(Put("1", -80.0), Put("2")), answer=always(OK), then="[2]✓", destination=None, dropped=1, core_only=OLD),
    Row(name="36c", claim="several that are too old make one failure record", rule="B.5", spec=AGE_60,
        puts=(Put("1", -80.0), Put("2", -70.0), Put("3")), answer=always(OK), then="→D{AGE,1..2,n2,c1,-} [3]✓",
        core_only=OLD),
    Row(name="36d", claim="age −1: however old, it is delivered", rule="B.5", puts=(Put("1", -700_000.0),),
        answer=always(OK), then="[1]✓", core_only=OLD),
    Row(name="36e", kinesis_only="its times have whole seconds", claim="at exactly its maximum age a record is too old", rule="B.5", spec=AGE_60,
        puts=(Put("1", -60.0), Put("2", -59.5)), answer=always(OK), then="→D{AGE,1..1,n1,c1,-} [2]✓", core_only=OLD),
    Row(name="38", claim="calls only while the record is young enough", rule="K.4, B.5", spec=AGE_60,
        answer=always(ERROR), then="[1]✗×6 →D{AGE,1..1,n1,c6,-}", at=(0, 1, 3, 7, 15, 31), core_only=WAITS,
        result="PROBLEM: Function call failed", ours="approximateInvokeCount is the calls made; AWS's is within one of it"),
    Row(name="38a", claim="retries that end first decide the condition", rule="B.5",
        spec={"maximumRecordAgeInSeconds": 600, "maximumRetryAttempts": 2}, answer=always(ERROR),
        then="[1]✗×3 →D{RAE,1..1,n1,c3,Unhandled}", result="PROBLEM: Function call failed"),
    Row(name="38b", claim="a batch loses its oldest while it is retried; the rest is called at once", rule="B.5",
        spec={**AGE_60, "maximumRetryAttempts": 10}, puts=(Put("1", -50.0), Put("2")), answer=poison(1),
        then="[1,2]✗×4 →D{AGE,1..1,n1,c4,-} [2]✓", at=(0, 1, 3, 7, 10), core_only=WAITS),
    Row(name="38c", claim="what is left of a batch has a budget of its own", rule="B.5",
        spec={**AGE_60, "maximumRetryAttempts": 4}, puts=(Put("1", -50.0), Put("2")), answer=always(ERROR),
        then="[1,2]✗×4 →D{AGE,1..1,n1,c4,-} [2]✗×5 →D{RAE,2..2,n1,c5,Unhandled}", core_only=WAITS,
        result="PROBLEM: Function call failed", ours="AWS does not say whether the budget is renewed"),
    Row(name="40", claim="a call that is under way when its record grows too old counts", rule="K.4, B.5", spec=AGE_60,
        puts=(Put("1", -50.0),), answer=always(slow(OK, 20.0)), then="[1]✓", core_only=WAITS),
    Row(name="40a", claim="one that fails then is not repeated", rule="B.5", spec=AGE_60, puts=(Put("1", -50.0),),
        answer=always(slow(ERROR, 20.0)), then="[1]✗ →D{AGE,1..1,n1,c1,-}", core_only=WAITS,
        result="PROBLEM: Function call failed"),
    Row(name="41", claim="a batching window does not hold a record past its age", rule="K.4, B.2",
        spec={**AGE_60, "maximumBatchingWindowInSeconds": 300}, answer=always(OK), then="[1]✓", at=(59,),
        core_only=WAITS, ours="it leaves its window a second before"),
    Row(name="41a", claim="age ends a split's right half while its left is retried", rule="B.5",
        spec={**AGE_60, **BISECT}, puts=(Put("1", -1.0), Put("2", -40.0)), answer=script(*[ERROR] * 20),
        then="[1,2]✗ [1]✗×6 →D{AGE,1..1,n1,c6,-} →D{AGE,2..2,n1,c1,-}", at=(0, 0, 1, 3, 7, 15, 31), core_only=WAITS,
        result="PROBLEM: Function call failed"),
]  # fmt: skip
