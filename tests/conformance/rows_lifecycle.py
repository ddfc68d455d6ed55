"""K.5: lanes, shards that split and merge, stops and crashes, destinations that fail (contract B.3, B.8, C.5)."""

from __future__ import annotations

from tests.conformance.table import (
    ERROR,
    KILLED,
    OK,
    WAITS,
    Row,
    always,
    poison,
    puts,
    script,
    slow,
)  # fmt: skip
from tests.support.world import Answered, Put, Reshard, Seen, Stop

SPLITS = "resharding takes an emulator seconds; rows 47 and 48 are played on one"
STOPS = "it stops and starts; tests/integration/test_kill.py and test_run.py do"
DENIED = "its destination comes late or never; tests/integration/test_world.py plays such"
FAILED = "PROBLEM: Function call failed"
DROP = {"destinationConfig": {"onFailure": {"destination": "arn:aws:sqs:us-east-1:000000000000:failed",
                                            "deliveryPolicy": "Drop"}}}  # fmt: skip
FOREVER = float("inf")
MERGE = (Reshard("a", closes=10.0), Reshard("b", closes=10.0), Reshard("c", ("a", "b"), opens=10.0))
SPLIT = (Reshard("a", closes=10.0), Reshard("b", ("a",), opens=10.0), Reshard("c", ("a",), opens=10.0))


def _slow_first(seen: Seen) -> Answered:
    return slow(OK, 8.0) if not seen.index else OK


def _second_fails_until_the_merge(seen: Seen) -> Answered:
    return ERROR if seen.records == (2,) and seen.index <= 4 else OK


ROWS = [
    Row(name="43", claim="one key, ten lanes: one call at a time", rule="K.5, B.3",
        spec={"parallelizationFactor": 10, "batchSize": 1}, puts=puts(5), answer=always(slow(OK, 1.0)),
        then="[1]✓ [2]✓ [3]✓ [4]✓ [5]✓", at=(0, 1, 2, 3, 4), in_flight=1),
    Row(name="44", claim="four keys in lanes of their own: called side by side", rule="K.5, B.3",
        spec={"parallelizationFactor": 10, "batchSize": 1},
        puts=tuple(Put(str(n), 0.0, key) for n, key in enumerate("abeg", 1)), answer=always(slow(OK, 5.0)),
        then="[1]✓ [2]✓ [3]✓ [4]✓", in_flight=4, side_by_side=True,
        ours="the lane of a key is its CRC-32 modulo the factor; AWS's hash is not known"),
    Row(name="44a", claim="a hundred keys: as many calls as lanes at a time, and each key in order", rule="K.5, B.3",
        spec={"parallelizationFactor": 10, "batchSize": 1},
        puts=tuple(Put(str(n), 0.0, f"key-{n % 100}") for n in range(1, 301)), answer=always(slow(OK, 1.0)),
        then="[1]✓…[300]✓", in_flight=10, side_by_side=True),
    Row(name="45", claim="without a factor a shard is strictly serial", rule="B.3", spec={"batchSize": 1},
        puts=tuple(Put(str(n), 0.0, f"key-{n}") for n in range(1, 5)), answer=always(slow(OK, 1.0)),
        then="[1]✓ [2]✓ [3]✓ [4]✓", at=(0, 1, 2, 3), in_flight=1),
    Row(name="46", kinesis_only="its times are those of one read a second; row D 46", claim="a failing shard holds up no other", rule="B.3",
        spec={"batchSize": 1}, shards=(Reshard("a"), Reshard("b")),
        puts=(Put("1", 0.0, "k", "a"), Put("2", 0.5, "k", "b"), Put("3", 2.5, "k", "b")),
        answer=poison(1), then="[1]✗×2 [2]✓ [1]✗ [3]✓ [1]✗", at=(0, 1, 1, 3, 3, 7), seconds=10, checkpoint=None,
        result=None, core_only=WAITS),
    Row(name="47", claim="a merge's child waits for both parents, and for the retries of one", rule="K.5, B.8",
        shards=MERGE, puts=(Put("1", 0.0, "k", "a"), Put("2", 1.0, "k", "b"), Put("3", 11.0, "k", "c")),
        answer=_second_fails_until_the_merge, then="[1]✓ [2]✗×4 [2]✓ [3]✓", at=(0, 1, 2, 4, 8, 16, 16)),
    Row(name="47a", claim="a child waits for its parent's retries too", rule="B.8", spec={"maximumRetryAttempts": 4},
        shards=SPLIT, puts=(Put("1", 9.0, "k", "a"), Put("2", 11.0, "k", "b")), answer=poison(1),
        then="[1]✗×5 →D{RAE,1..1,n1,c5,Unhandled} [2]✓", at=(9, 10, 12, 16, 24, 24), core_only=SPLITS),
    Row(name="47b", claim="siblings are read side by side", rule="B.8", shards=SPLIT,
        puts=(Put("1", 12.0, "k", "b"), Put("2", 12.0, "k", "c")), answer=always(slow(OK, 5.0)),
        then="[1]✓ [2]✓", at=(12, 12), in_flight=2, core_only=SPLITS),
    Row(name="48", claim="LATEST misses nothing of the children of a later split", rule="K.5, B.8",
        spec={"startingPosition": "LATEST"}, shards=SPLIT,
        puts=(Put("1", -5.0, "k", "a"), Put("2", 5.0, "k", "a"), Put("3", 10.5, "k", "b"), Put("4", 10.5, "k", "c")),
        answer=always(OK), then="[2]✓ [3]✓ [4]✓"),
    Row(name="49", claim="a poller killed under a call repeats it and misses nothing", rule="K.5, B.8",
        spec={"batchSize": 3}, puts=puts(5), answer=script(KILLED), stops=(Stop(2.0, 8.0, kill=True),),
        then="[1,2,3]† [1,2,3]✓ [4,5]✓", at=(0, 8, 8), core_only=STOPS),
    Row(name="49a", claim="attempts are kept over a crash", rule="B.8", spec={"maximumRetryAttempts": 2},
        answer=always(ERROR), stops=(Stop(2.0, 8.0, kill=True),), then="[1]✗×3 →D{RAE,1..1,n1,c3,Unhandled}",
        at=(0, 1, 8), result=FAILED, core_only=STOPS, ours="AWS may start counting anew after a failure of its own"),
    Row(name="49b", claim="the age goes on while the poller is down", rule="K.5, B.8",
        spec={"maximumRecordAgeInSeconds": 60}, answer=always(ERROR), stops=(Stop(2.0, 70.0, kill=True),),
        then="[1]✗×2 →D{AGE,1..1,n1,c2,-}", at=(0, 1), result=FAILED, core_only=STOPS),
    Row(name="52", claim="Drop: a destination that refuses costs the batch, not the shard", rule="K.5, C.5",
        spec={"batchSize": 1, "maximumRetryAttempts": 0, **DROP}, puts=puts(3), answer=poison(1), away_until=FOREVER,
        then="[1]✗ [2]✓ [3]✓", dropped=1, core_only=DENIED,
        ours="tries begin for ten seconds; AWS's own are not described"),
    Row(name="52a", claim="Block: nothing passes a failure record that cannot be delivered", rule="C.5 (this project)",
        spec={"batchSize": 1, "maximumRetryAttempts": 0}, puts=puts(2), answer=poison(1), away_until=40.0,
        then="[1]✗ →D{RAE,1..1,n1,c1,Unhandled} [2]✓", at=(0, 45), core_only=DENIED,
        ours="AWS drops the batch; Block is the default here and loses nothing"),
    Row(name="53", claim="metrics count records, not failure records", rule="K.5, I", spec={"maximumRetryAttempts": 0},
        puts=puts(3), answer=always(ERROR), then="[1,2,3]✗ →D{RAE,1..3,n3,c1,Unhandled}", result=FAILED),
    Row(name="54", claim="S3: its key is of the mapping, the shard and the time; the payload is the last event as text",
        rule="K.5, C.2", spec={"maximumRetryAttempts": 1}, puts=puts(3), answer=always(ERROR), destination="s3",
        then="[1,2,3]✗×2 →D{RAE,1..3,n3,c2,Unhandled}", result=FAILED),
    Row(name="55", claim="SNS: the message is the document that a queue gets", rule="K.5, C.1",
        spec={"maximumRetryAttempts": 1}, puts=puts(3), answer=always(ERROR), destination="sns",
        then="[1,2,3]✗×2 →D{RAE,1..3,n3,c2,Unhandled}", result=FAILED),
    Row(name="56", claim="a call under way at a stop is acknowledged; later it goes on behind it", rule="K.5, B.8",
        spec={"batchSize": 3}, puts=(*puts(3), *(Put(str(n), 10.0) for n in (4, 5, 6))), answer=_slow_first,
        stops=(Stop(2.0, 20.0),), then="[1,2,3]✓ [4,5,6]✓", at=(0, 20), core_only=STOPS),
    Row(name="56a", claim="a stop leaves a batch that waits where it is", rule="B.8", spec={"batchSize": 1},
        puts=puts(2), answer=script(ERROR, ERROR), stops=(Stop(2.0, 20.0),), then="[1]✗×2 [1]✓ [2]✓", at=(0, 1, 20, 20),
        core_only=STOPS),
    Row(name="58", claim="a mapping beside one that fails, on the same stream, is unaffected", rule="K.5",
        spec={"batchSize": 1}, puts=puts(3), answer=always(OK), then="[1]✓ [2]✓ [3]✓", at=(0, 0, 0)),
    Row(name="58 failing", claim="the one that fails", rule="K.5", spec={"batchSize": 1, "maximumRetryAttempts": 2},
        puts=puts(3), answer=poison(1, 3), beside="58", result=FAILED,
        then="[1]✗×3 →D{RAE,1..1,n1,c3,Unhandled} [2]✓ [3]✗×3 →D{RAE,3..3,n1,c3,Unhandled}",
        at=(0, 1, 3, 3, 3, 4, 6)),
]  # fmt: skip
