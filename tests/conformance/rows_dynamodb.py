"""What is DynamoDB Streams' own of K.7, B and D: filters on attributes, lanes by primary key, whole seconds."""

from __future__ import annotations

from tests.conformance.rows_filters import data, matching
from tests.conformance.table import ERROR, OK, WAITS, Row, always, poison
from tests.support.world import Put, Reshard

FAILED = "PROBLEM: Function call failed"
YES, NO = '{"t":"y"}', '{"t":"n"}'


def image(**conditions: object) -> dict[str, object]:
    """A pattern on the new image's attributes."""
    return {"dynamodb": {"NewImage": conditions}}


WANTED = matching(image(t={"S": ["y"]}))
ROWS = [
    Row(name="D 68", source="dynamodb", claim="only what matches is called with; the checkpoint passes the rest",
        rule="K.7, E", spec={"batchSize": 2, **WANTED}, puts=data(NO, YES, NO, YES, NO), answer=always(OK),
        then="[2,4]✓", filtered=3),
    Row(name="D 69", source="dynamodb", claim="nothing matches: no call, and the checkpoint moves on", rule="K.7, E",
        spec=WANTED, puts=data(NO, NO), answer=always(OK), then="", filtered=2, result="No records processed"),
    Row(name="D 70", source="dynamodb", claim="an attribute of another type matches nothing", rule="K.7, E",
        spec=WANTED, puts=data('{"t":1}', YES, '{"t":["y"]}', '{"u":"y"}'), answer=always(OK), then="[2]✓", filtered=3),
    Row(name="D 71", source="dynamodb", claim="filters are alternatives, fields of one go together", rule="K.7, E",
        spec=matching(image(a={"N": ["1"]}, b={"N": ["1"]}), image(c={"N": [{"exists": True}]})),
        puts=data('{"a":1}', '{"a":1,"b":1}', '{"c":0}', '{"d":1}'), answer=always(OK), then="[2,3]✓", filtered=2),
    Row(name="D 74", source="dynamodb", claim="numbers are text: no numeric test matches them, an exact one does",
        rule="E.4 (recorded)", spec=matching(image(n={"N": [{"numeric": [">", 100]}, {"anything-but": "101"}]})),
        puts=data('{"n":42}', '{"n":101}', '{"n":500}'), answer=always(OK), then="[1,3]✓", filtered=1),
    Row(name="D 74 number", source="dynamodb", claim="an exact number is one in the text's words", rule="E.4",
        spec=matching(image(n={"N": ["42"]})), puts=data('{"n":42}', '{"n":420}'), answer=always(OK), then="[1]✓",
        filtered=1),
    Row(name="D 74 event", source="dynamodb", claim="what happened, and to which item, can be asked for",
        rule="E.1 (recorded)", spec=matching({"eventName": [{"anything-but": "REMOVE"}], "dynamodb": {"Keys": {"pk": {"S": ["a"]}}}}),
        puts=(Put("1", key="a"), Put("2", key="b"), Put("3", key="a")), answer=always(OK), then="[1,3]✓", filtered=1),
    Row(name="D 74 time", source="dynamodb", claim="ApproximateCreationDateTime is a number, in whole seconds",
        rule="D.2 (recorded)", spec=matching({"dynamodb": {"ApproximateCreationDateTime": [{"numeric": [">", 0]}]}}),
        puts=data(YES), answer=always(OK), then="[1]✓"),
    Row(name="D 46", source="dynamodb", claim="a failing shard holds up no other, each read four times a second",
        rule="B.1, B.3", spec={"batchSize": 1}, shards=(Reshard("a"), Reshard("b")),
        puts=(Put("1", 0.0, "k", "a"), Put("2", 0.6, "k", "b"), Put("3", 2.5, "k", "b")),
        answer=poison(1), then="[1]✗ [2]✓ [1]✗ [3]✓ [1]✗×2", at=(0, 0.75, 1, 2.5, 3, 7), seconds=10, checkpoint=None,
        result=None, core_only=WAITS),
    Row(name="D 75", source="dynamodb", claim="exists on an attribute, which is an object, matches nothing",
        rule="K.7, E", spec=matching(image(o=[{"exists": True}]), image(p={"S": [{"exists": True}]})),
        puts=data('{"o":"1"}', '{"p":"1"}'), answer=always(OK), then="[2]✓", filtered=1),
    Row(name="D 75a", source="dynamodb", rule="C.1, E",
        claim="a failure record spans what was filtered between its ends, and counts what was not",
        spec={"maximumRetryAttempts": 0, **WANTED}, puts=data(YES, NO, YES), answer=always(ERROR),
        then="[1,3]✗ →D{RAE,1..3,n2,c1,Unhandled}", filtered=1, result=FAILED),
    Row(name="D 75b", source="dynamodb", claim="a split sees matching records only", rule="B.5, E",
        spec={"maximumRetryAttempts": 0, "bisectBatchOnFunctionError": True, **WANTED}, puts=data(YES, NO, YES, YES),
        answer=poison(4), then="[1,3,4]✗ [1]✓ [3,4]✗ [3]✓ [4]✗ →D{RAE,4..4,n1,c1,Unhandled}", filtered=1,
        result=FAILED),
]  # fmt: skip
