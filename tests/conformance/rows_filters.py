"""K.7: filters (contract E)."""

from __future__ import annotations

import json
from typing import Any

from tests.conformance.table import ERROR, OK, Row, always, poison, puts
from tests.support.world import Put


def matching(*patterns: Any) -> dict[str, Any]:
    return {"filterCriteria": {"filters": [{"pattern": json.dumps(pattern)} for pattern in patterns]}}


def data(*records: str) -> tuple[Put, ...]:
    return tuple(map(Put, records))


DATA = "its patterns ask for data; those of DynamoDB streams have rows of their own"
YES, NO = '{"t":"y"}', '{"t":"n"}'
ROWS = [
    Row(name="68", kinesis_only=DATA, claim="only what matches is called with; the checkpoint passes the rest", rule="K.7, E",
        spec={"batchSize": 2, **matching({"data": {"t": ["y"]}})}, puts=data(NO, YES, NO, YES, NO), answer=always(OK),
        then="[2,4]✓", filtered=3),
    Row(name="69", kinesis_only=DATA, claim="nothing matches: no call, and the checkpoint moves on", rule="K.7, E",
        spec=matching({"data": {"t": ["y"]}}), puts=data(NO, NO), answer=always(OK), then="", filtered=2,
        result="No records processed"),
    Row(name="70", kinesis_only=DATA, claim="data that is no JSON matches no pattern on data", rule="K.7, E",
        spec=matching({"data": {"t": ["y"]}}), puts=data("text", YES, ""), answer=always(OK), then="[2]✓", filtered=2),
    Row(name="71", kinesis_only=DATA, claim="filters are alternatives, fields of one go together", rule="K.7, E",
        spec=matching({"data": {"a": [1], "b": [1]}}, {"data": {"c": [{"exists": True}]}}),
        puts=data('{"a":1}', '{"a":1,"b":1}', '{"c":0}', '{"d":1}'), answer=always(OK), then="[2,3]✓", filtered=2),
    Row(name="72", claim="no filters, no filtering", rule="E", spec={"filterCriteria": {"filters": []}}, puts=puts(2),
        answer=always(OK), then="[1,2]✓"),
    Row(name="74", kinesis_only=DATA, claim="numbers, prefixes and exclusions", rule="E",
        spec=matching({"data": {"n": [{"numeric": [">", 5, "<=", 10]}], "s": [{"prefix": "a"}],
                                "x": [{"anything-but": ["no"]}]}}),
        puts=data('{"n":6,"s":"ab","x":"yes"}', '{"n":5,"s":"ab","x":"yes"}', '{"n":10,"s":"b","x":"yes"}',
                  '{"n":10,"s":"a","x":"no"}', '{"n":10,"s":"a","x":"yes"}'),
        answer=always(OK), then="[1,5]✓", filtered=3),
    Row(name="75", kinesis_only=DATA, claim="exists on an object matches nothing", rule="K.7, E",
        spec=matching({"data": {"o": [{"exists": True}]}}), puts=data('{"o":{"a":1}}', '{"o":1}'), answer=always(OK),
        then="[2]✓", filtered=1),
    Row(name="75a", kinesis_only=DATA, claim="a failure record spans what was filtered between its ends, and counts what was not",
        rule="C.1, E", spec={"maximumRetryAttempts": 0, **matching({"data": {"t": ["y"]}})},
        puts=data(YES, NO, YES), answer=always(ERROR), then="[1,3]✗ →D{RAE,1..3,n2,c1,Unhandled}", filtered=1,
        result="PROBLEM: Function call failed"),
    Row(name="75b", kinesis_only=DATA, claim="a split sees matching records only", rule="B.5, E",
        spec={"maximumRetryAttempts": 0, "bisectBatchOnFunctionError": True, **matching({"data": {"t": ["y"]}})},
        puts=data(YES, NO, YES, YES), answer=poison(4), then="[1,3,4]✗ [1]✓ [3,4]✗ [3]✓ [4]✗ "
        "→D{RAE,4..4,n1,c1,Unhandled}", filtered=1, result="PROBLEM: Function call failed"),
]  # fmt: skip
