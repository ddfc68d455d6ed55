"""K.2 and K.3: splits, partial responses, both together (contract B.5, B.6)."""

from __future__ import annotations

from tests.conformance.table import (
    BISECT,
    ERROR,
    OK,
    RBIF,
    THROTTLED,
    WAITS,
    Row,
    always,
    body,
    failures,
    poison,
    puts,
    reports,
    script,
)  # fmt: skip
from tests.support.world import Answered, Put, Seen

INVALID = "PROBLEM: Sequence number in function response is invalid. Please check function implementation."
FAILED = "PROBLEM: Function call failed"


def _first_of_batch(seen: Seen) -> Answered:
    return reports(seen.records[0])(seen)


ROWS = [
    Row(name="16", claim="bisect halves down to the poison, left before right", rule="K.2, B.5",
        spec={"batchSize": 6, "maximumRetryAttempts": 2, **BISECT}, puts=puts(6), answer=poison(1),
        then="[1..6]✗ [1,2,3]✗ [1]✗×3 →D{RAE,1..1,n1,c3,Unhandled} [2,3]✓ [4,5,6]✓"),
    Row(name="17", claim="what a single spends is its own budget, not its batch's", rule="K.2, B.4",
        spec={"batchSize": 6, "maximumRetryAttempts": 10, **BISECT}, puts=puts(6), answer=poison(1), seconds=600,
        then="[1..6]✗ [1,2,3]✗ [1]✗×11 →D{RAE,1..1,n1,c11,Unhandled} [2,3]✓ [4,5,6]✓"),
    Row(name="17a", claim="no retries still splits to singles", rule="B.5", spec={"maximumRetryAttempts": 0, **BISECT},
        puts=puts(4), answer=poison(3), then="[1..4]✗ [1,2]✓ [3,4]✗ [3]✗ →D{RAE,3..3,n1,c1,Unhandled} [4]✓"),
    Row(name="17b", claim="two poisons, two failure records", rule="B.5, C.1",
        spec={"maximumRetryAttempts": 0, **BISECT}, puts=puts(5), answer=poison(1, 5),
        then="[1..5]✗ [1,2]✗ [1]✗ →D{RAE,1..1,n1,c1,Unhandled} [2]✓ [3,4,5]✗ [3]✓ [4,5]✗ [4]✓ [5]✗ "
             "→D{RAE,5..5,n1,c1,Unhandled}", result=FAILED,
        ours="one record for every batch given up; AWS may merge neighbours"),
    Row(name="17c", claim="halves are called at once", rule="B.5", spec={"maximumRetryAttempts": 1, **BISECT}, puts=puts(2),
        answer=poison(2), then="[1,2]✗ [1]✓ [2]✗×2 →D{RAE,2..2,n1,c2,Unhandled}", at=(0, 0, 0, 1), result=FAILED),
    Row(name="17d", claim="after a split the next batch is of full size", rule="B.5",
        spec={"batchSize": 4, "maximumRetryAttempts": 0, **BISECT}, puts=puts(8), answer=poison(1),
        then="[1..4]✗ [1,2]✗ [1]✗ →D{RAE,1..1,n1,c1,Unhandled} [2]✓ [3,4]✓ [5..8]✓"),
    Row(name="17e", claim="a throttled half is sent again whole", rule="B.4", spec={"maximumRetryAttempts": 0, **BISECT},
        puts=puts(4), answer=script(ERROR, THROTTLED), then="[1..4]✗ [1,2]T [1,2]✓ [3,4]✓"),
    Row(name="23", claim="a poison that only age ends, and its younger neighbour", rule="K.2, B.5",
        spec={"maximumRecordAgeInSeconds": 60, **BISECT}, puts=(Put("1", -20.0), Put("2", -1.0)), answer=poison(1),
        then="[1,2]✗ [1]✗×6 →D{AGE,1..1,n1,c6,-} [2]✓", at=(0, 0, 1, 3, 7, 15, 31, 40), core_only=WAITS),
    Row(name="24", claim="a partial advance makes a new batch with a budget of its own", rule="K.3, B.4",
        spec={"batchSize": 3, "maximumRetryAttempts": 3, **RBIF}, puts=puts(6), answer=reports(6),
        then="[1,2,3]✓ [4,5,6]P(6) [6]P(6)×4 →D{RAE,6..6,n1,c4,null}"),
    Row(name="25", claim="from the lowest reported record on everything comes again", rule="K.3, B.6",
        spec={"maximumRetryAttempts": 0, **RBIF}, puts=puts(5), answer=reports(2, 4),
        then="[1..5]P(2) [2..5]P(2) →D{RAE,2..5,n4,c1,null}"),
    Row(name="25a", claim="with bisect a report splits at the record, and only the culprit is given up", rule="B.6",
        spec={"maximumRetryAttempts": 1, **RBIF, **BISECT}, puts=puts(6), answer=reports(4),
        then="[1..6]P(4) [4,5,6]P(4) [4]P(4)×2 →D{RAE,4..4,n1,c2,null} [5,6]✓"),
    Row(name="25b", claim="no progress without bisect spends retries on the whole batch", rule="B.4",
        spec={"maximumRetryAttempts": 1, **RBIF}, puts=puts(3), answer=_first_of_batch,
        then="[1,2,3]P(1)×2 →D{RAE,1..3,n3,c2,null}"),
    Row(name="25c", claim="a partial advance is retried at once", rule="B.5", spec=RBIF, puts=puts(3),
        answer=lambda seen: reports(2)(seen) if not seen.index else OK,
        then="[1,2,3]P(2) [2,3]✓", at=(0, 0)),
    Row(name="26", claim="the lowest id is the lowest number, not the first text", rule="K.3, B.6", spec=RBIF,
        puts=puts(10), answer=lambda seen: reports(10, 9)(seen) if not seen.index else OK,
        then="[1..10]P(9) [9,10]✓"),
    *[Row(name=f"30 {text!r}", claim=f"the body {text or 'without anything'} acknowledges all", rule="K.3, B.6",
          spec=RBIF, puts=puts(2), answer=always(body("✓", text)), then="[1,2]✓")
      for text in ("", '""', "null", "{}", "[]", failures(""), '{"batchItemFailures":null}')],
    *[Row(name=f"31 {item}", claim=f"the report {item} is a failure of the whole batch", rule="K.3, B.6",
          spec={"maximumRetryAttempts": 2, **RBIF}, puts=puts(2), answer=always(body("I", failures(item))),
          then="[1,2]I×3 →D{RAE,1..2,n2,c3,null}", result=INVALID)
      for item in ('{"itemIdentifier":123}', '{"itemIdentifier":""}', '{"itemIdentifier":null}', '{"foo":123}',
                   '{"foo":null}')],
    Row(name="31 raise", claim="an exception is a failure of the whole batch", rule="K.3, B.6",
        spec={"maximumRetryAttempts": 2, **RBIF}, puts=puts(2), answer=always(ERROR),
        then="[1,2]✗×3 →D{RAE,1..2,n2,c3,Unhandled}", result=FAILED),
    Row(name="31 text", claim="an answer that is no object fails the batch", rule="B.6, L.7",
        spec={"maximumRetryAttempts": 0, **RBIF}, answer=always(body("I", '"done"')),
        then="[1]I →D{RAE,1..1,n1,c1,null}", result=INVALID, ours="AWS does not say what other JSON values mean"),
    Row(name="31 split", claim="an invalid report with bisect halves", rule="B.4, B.6",
        spec={"maximumRetryAttempts": 0, **RBIF, **BISECT}, puts=puts(2),
        answer=always(body("I", failures('{"itemIdentifier":""}'))),
        then="[1,2]I [1]I →D{RAE,1..1,n1,c1,null} [2]I →D{RAE,2..2,n1,c1,null}", result=INVALID),
    Row(name="32", claim="an id of no record of this batch fails the batch", rule="K.3, B.6",
        spec={"maximumRetryAttempts": 2, **RBIF}, puts=puts(2),
        answer=always(body("I", failures('{"itemIdentifier":"999"}'))), then="[1,2]I×3 →D{RAE,1..2,n2,c3,null}",
        result=INVALID),
    Row(name="32a", claim="one unknown id among good ones fails the batch", rule="B.6",
        spec={"maximumRetryAttempts": 0, **RBIF}, puts=puts(2),
        answer=lambda seen: body("I", failures(f'{{"itemIdentifier":"{seen.numbers[1]}"}},{{"itemIdentifier":"999"}}')),
        then="[1,2]I →D{RAE,1..2,n2,c1,null}", result=INVALID),
    Row(name="35", claim="a function error wins over its body", rule="K.3, B.6",
        spec={"maximumRetryAttempts": 1, **RBIF},
        answer=always(body("✗", failures(""), 200, **{"x-amz-function-error": "Handled"})),
        then="[1]✗×2 →D{RAE,1..1,n1,c2,Handled}", result=FAILED),
]  # fmt: skip
