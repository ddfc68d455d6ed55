"""Filter patterns, line by line of contract E.4, and every refusal with the place it names (V16, K.7 row 73)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.filter_operators import InvalidPattern
from headrace.filter_patterns import DEEPEST_PATTERN, DataKey, compile_pattern, parse_json


def matches(pattern: str, event: str) -> bool:
    return compile_pattern(pattern).matches(parse_json(event))


# Patterns, what they match, what they do not: JSON as it is written, since a number's text counts.
GRAMMAR: list[tuple[str, list[str], list[str]]] = [
    # exact values, by type and text
    ('{"a":["x","y"]}', ['{"a":"x"}', '{"a":"y","b":1}'], ['{"a":"z"}', '{"a":"X"}', '{"A":"x"}', '{"a":"xy"}', "{}"]),
    ('{"a":[300]}', ['{"a":300}'], ['{"a":"300"}', '{"a":300.0}', '{"a":3.0e2}', '{"a":3e2}', '{"a":-300}']),
    ('{"a":[300.0]}', ['{"a":300.0}'], ['{"a":300}', '{"a":3.0e2}', '{"a":300.00}']),
    ('{"a":[3.0e2]}', ['{"a":3.0e2}'], ['{"a":300}', '{"a":300.0}', '{"a":3.0E2}']),
    ('{"a":["300"]}', ['{"a":"300"}'], ['{"a":300}']),
    ('{"a":[true]}', ['{"a":true}'], ['{"a":false}', '{"a":"true"}', '{"a":1}', '{"a":null}']),
    ('{"a":[false]}', ['{"a":false}'], ['{"a":0}', '{"a":null}', '{"a":""}', "{}"]),
    ('{"a":[1]}', ['{"a":1}'], ['{"a":true}']),
    ('{"a":[null]}', ['{"a":null}'], ["{}", '{"a":"null"}', '{"a":[]}', '{"a":0}', '{"a":{}}', '{"a":""}']),
    ('{"a":[""]}', ['{"a":""}'], ["{}", '{"a":" "}', '{"a":null}']),
    ('{"a":["é🚀 "]}', ['{"a":"é🚀 "}', '{"a":"\\u00e9\\ud83d\\ude80 "}'], ['{"a":"é🚀"}']),
    ('{"a":[12345678901234567890123]}', ['{"a":12345678901234567890123}'], ['{"a":12345678901234567890124}']),
    # objects: fields are AND-ed, values OR-ed, unlisted fields ignored
    ("{}", ["{}", '{"a":1}'], []),
    ('{"a":[1],"b":[2]}', ['{"a":1,"b":2,"c":3}'], ['{"a":1}', '{"b":2}', '{"a":1,"b":1}']),
    ('{"a":{"b":{"c":[1]}}}', ['{"a":{"b":{"c":1}}}'], ['{"a":{"b":1}}', '{"a":{"c":1}}', '{"b":{"c":1}}', '{"a":[]}']),
    ('{"a":{"b":[1]}}', ['{"a":{"b":1,"c":2}}'], ['{"a":"{\\"b\\":1}"}', '{"a.b":1}', '{"a":null}', '"a"', "[]", "1"]),
    ('{"a":[1,"x",{"prefix":"y"}]}', ['{"a":1}', '{"a":"x"}', '{"a":"yz"}'], ['{"a":"z"}', '{"a":2}']),
    # texts
    ('{"a":[{"equals-ignore-case":"alIce"}]}', ['{"a":"ALICE"}', '{"a":"alice"}'], ['{"a":"alices"}', '{"a":1}', "{}"]),
    ('{"a":[{"equals-ignore-case":""}]}', ['{"a":""}'], ['{"a":"x"}', '{"a":null}']),
    ('{"a":[{"equals-ignore-case":"ΟΔΟΣ"}]}', ['{"a":"οδος"}', '{"a":"οδοσ"}'], ['{"a":"οδο"}']),
    ('{"a":[{"prefix":"us-"}]}', ['{"a":"us-east-1"}', '{"a":"us-"}'], ['{"a":"US-"}', '{"a":"us"}', '{"a":"a us-"}']),
    ('{"a":[{"prefix":""}]}', ['{"a":""}', '{"a":"x"}'], ['{"a":1}', '{"a":null}', "{}"]),
    ('{"a":[{"prefix":"1"}]}', ['{"a":"12"}'], ['{"a":12}', '{"a":true}']),
    ('{"a":[{"suffix":".png"}]}', ['{"a":"x.png"}', '{"a":".png"}'], ['{"a":"x.PNG"}', '{"a":"png"}', '{"a":"x.png "}']),
    ('{"a":[{"prefix":{"equals-ignore-case":"EvE"}}]}', ['{"a":"event"}', '{"a":"EVE"}'], ['{"a":"ev"}', '{"a":3}']),
    ('{"a":[{"suffix":{"equals-ignore-case":".png"}}]}', ['{"a":"x.PNG"}'], ['{"a":"x.jpg"}', '{"a":null}']),
    # anything-but
    ('{"a":[{"anything-but":["x"]}]}', ['{"a":"y"}', '{"a":1}', '{"a":null}', '{"a":""}'], ['{"a":"x"}', "{}"]),
    ('{"a":[{"anything-but":"x"}]}', ['{"a":"y"}', '{"a":true}'], ['{"a":"x"}', "{}", '{"a":[]}', '{"a":{"b":"y"}}']),
    ('{"a":[{"anything-but":["x","y"]}]}', ['{"a":"z"}'], ['{"a":"x"}', '{"a":"y"}']),
    ('{"a":[{"anything-but":0}]}', ['{"a":1}', '{"a":"0"}', '{"a":0.0}'], ['{"a":0}', "{}"]),
    ('{"a":[{"anything-but":[100,200]}]}', ['{"a":999}', '{"a":"100"}'], ['{"a":100}', '{"a":200}']),
    ('{"a":[{"anything-but":{"prefix":"in"}}]}', ['{"a":"x"}', '{"a":12}', '{"a":null}'], ['{"a":"init"}', "{}"]),
    ('{"a":[{"anything-but":{"prefix":["in","po"]}}]}', ['{"a":"x"}'], ['{"a":"init"}', '{"a":"post"}']),
    ('{"a":[{"anything-but":{"suffix":".txt"}}]}', ['{"a":"x.bak"}'], ['{"a":"x.txt"}', "{}"]),
    ('{"a":[{"anything-but":{"suffix":[".txt",".md"]}}]}', ['{"a":"x.bak"}'], ['{"a":"x.txt"}', '{"a":"x.md"}']),
    ('{"a":[{"anything-but":{"equals-ignore-case":"On"}}]}', ['{"a":"off"}', '{"a":1}'], ['{"a":"ON"}', "{}"]),
    ('{"a":[{"anything-but":{"equals-ignore-case":["on",""]}}]}', ['{"a":"off"}'], ['{"a":"ON"}', '{"a":""}']),
    # numeric
    ('{"a":[{"numeric":["=",100]}]}', ['{"a":100}', '{"a":100.0}', '{"a":1e2}'], ['{"a":101}', '{"a":"100"}', "{}"]),
    ('{"a":[{"numeric":[">",10]}]}', ['{"a":10.1}', '{"a":1e999999}', '{"a":6e9}'], ['{"a":10}', '{"a":-11}', '{"a":null}']),
    ('{"a":[{"numeric":[">=",10]}]}', ['{"a":10}', '{"a":10.0}'], ['{"a":9.999999999999999999999}', '{"a":true}']),
    ('{"a":[{"numeric":["<",0]}]}', ['{"a":-0.1}', '{"a":-1e-400}'], ['{"a":0}', '{"a":-0}', '{"a":1}']),
    ('{"a":[{"numeric":["<=",0]}]}', ['{"a":-0}', '{"a":-1}'], ['{"a":1e-400}', '{"a":""}']),
    ('{"a":[{"numeric":[">",10,"<=",20]}]}', ['{"a":11}', '{"a":20}'], ['{"a":10}', '{"a":20.0001}', '{"a":"15"}']),
    ('{"a":[{"numeric":[">=",-5e9,"<",5000000000]}]}', ['{"a":-5e9}', '{"a":0}'], ['{"a":5e9}', '{"a":-5000000001}']),
    ('{"a":[{"numeric":["<",1]}]}', ['{"a":-1e999999999}'], ['{"a":1e99999999999999999999}', '{"a":-1e99999999999999999999}']),
    # exists
    ('{"a":[{"exists":true}]}', ['{"a":1}', '{"a":null}', '{"a":""}', '{"a":false}', '{"a":[1]}'], ["{}", '{"a":[]}']),
    ('{"a":[{"exists":true}]}', ['{"a":[{"b":1},2]}'], ['{"a":{"b":1}}', '{"a":{}}', '{"a":[{"b":1}]}']),
    ('{"a":[{"exists":false}]}', ["{}", '{"b":1}', '{"a":[]}', '{"a":[[]]}'], ['{"a":1}', '{"a":null}', '{"a":{"b":1}}']),
    ('{"a":{"b":[{"exists":false}]}}', ["{}", '{"a":1}', '{"a":{"c":1}}', '{"a":[]}'], ['{"a":{"b":null}}', '{"a":[1,{"b":1}]}']),
    ('{"a":{"b":[{"exists":false}]}}', ['{"a":[{"c":1},{"c":2}]}'], ['{"a":[{"c":1},{"b":2}]}']),
    ('{"a":["x",{"exists":false}]}', ["{}", '{"a":"x"}'], ['{"a":"y"}']),
    # $or
    ('{"$or":[{"a":[1]},{"b":[2]}]}', ['{"a":1}', '{"b":2}', '{"a":2,"b":2}'], ["{}", '{"a":2,"b":1}']),
    ('{"c":[3],"$or":[{"a":[1]},{"b":[2]}]}', ['{"a":1,"c":3}'], ['{"a":1}', '{"c":3}']),
    ('{"d":{"$or":[{"a":[1]},{"b":[2]}]}}', ['{"d":{"b":2}}'], ['{"a":1}', '{"d":{}}']),
    ('{"$or":[{"a":[1]},{"$or":[{"b":[2]},{"c":[3],"d":[4]}]}]}', ['{"b":2}', '{"c":3,"d":4}'], ['{"c":3}']),
    ('{"$or":[{"a":{"b":[{"exists":false}]}},{"c":[1]}]}', ["{}", '{"a":{"b":1},"c":1}'], ['{"a":{"b":1}}']),
    # lists in the event: one element suffices, an object in them matches as a whole
    ('{"a":["x","y"]}', ['{"a":["z","x"]}', '{"a":[["y"]]}'], ['{"a":["z"]}', '{"a":[]}', '{"a":[{"x":"x"}]}']),
    ('{"a":[{"anything-but":"x"}]}', ['{"a":["x","y"]}'], ['{"a":["x","x"]}', '{"a":[]}']),
    ('{"a":{"b":[1],"c":[2]}}', ['{"a":[{"b":1},{"b":1,"c":2}]}'], ['{"a":[{"b":1},{"c":2}]}', '{"a":[1,2]}']),
    # of duplicate keys the last counts
    ('{"a":[1],"a":[2]}', ['{"a":2}', '{"a":1,"a":2}'], ['{"a":1}', '{"a":2,"a":1}']),
    ('{"a":[{"prefix":"us-"}],"a":[{"anything-but":"us-east"}]}', ['{"a":"eu-central-1"}'], ['{"a":"us-east"}']),
    # as recorded of DynamoDB: a number there is a string
    ('{"N":[{"numeric":[">",100]},{"anything-but":"101"}]}', ['{"N":"42"}'], ['{"N":"101"}', '{"S":"42"}']),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "event"), [(row[0], event) for row in GRAMMAR for event in row[1]])
def test_a_pattern_matches_what_it_asks_for(pattern: str, event: str) -> None:
    assert matches(pattern, event)


@pytest.mark.parametrize(("pattern", "event"), [(row[0], event) for row in GRAMMAR for event in row[2]])
def test_a_pattern_matches_nothing_else(pattern: str, event: str) -> None:
    assert not matches(pattern, event)


LISTED = "must be a list of values, not empty, or an object of fields, not empty"
ALTERNATIVES = "must be a list of two or more objects of fields, none empty"
AFFIX = "must be a string or an object with equals-ignore-case alone"
NUMERIC = 'must be a list like [">", 10] or [">", 10, "<=", 20]'
BOUND = "must be a number from -5e9 to 5e9 with at most 15 digits"
ANYTHING_BUT = "must be a string, a number, or a list of either strings or numbers"
NEGATABLE = "must hold exactly one of prefix, suffix, equals-ignore-case"
EVENTBRIDGE = "is an operator of EventBridge alone, not of event source mappings"
KNOWN = "is not an operator; known are prefix, suffix, equals-ignore-case, anything-but, numeric, exists"

REFUSED: list[tuple[str, str]] = [
    # no JSON: the character, counted from 1
    ("", "character 1: malformed JSON"),
    ("{", "character 2: malformed JSON"),
    ('{"a":', "character 6: malformed JSON"),
    ("{'a':[1]}", "character 2: malformed JSON"),
    ('{"a":[01]}', "character 8: malformed JSON"),
    ('{"a":[1]} x', "character 11: malformed JSON"),
    ('\ufeff{"a":[1]}', "character 1: malformed JSON"),
    ('{"a":[NaN]}', "the pattern: NaN is not JSON"),
    ('{"a":[-Infinity]}', "the pattern: -Infinity is not JSON"),
    # no object
    ("null", "the pattern: must be a JSON object"),
    ('"x"', "the pattern: must be a JSON object"),
    ('[{"a":[1]}]', "the pattern: must be a JSON object"),
    ("1", "the pattern: must be a JSON object"),
    # leaves
    ('{"a":"b"}', f"a: {LISTED}"),
    ('{"a":1}', f"a: {LISTED}"),
    ('{"a":null}', f"a: {LISTED}"),
    ('{"a":true}', f"a: {LISTED}"),
    ('{"a":[]}', f"a: {LISTED}"),
    ('{"a":{"b":{}}}', f"a.b: {LISTED}"),
    ('{"eventSource":"aws:sqs"}', f"eventSource: {LISTED}"),
    ('{"a":{"b":[1],"c":{"d":0}}}', f"a.c.d: {LISTED}"),
    ('{"a.b":[],"c":[1]}', f'["a.b"]: {LISTED}'),
    ('{"a":{"":[]}}', f'a[""]: {LISTED}'),
    ('{"a":{"b\\n\\ud800":[]}}', f"a.b??: {LISTED}"),
    ('{"' + "n" * 50 + '":[]}', f"{'n' * 40}…: {LISTED}"),
    ('{"a":[1,["b"]]}', "a[1]: must be a string, number, true, false, null or an operator"),
    # operators
    ('{"a":[{}]}', "a[0]: must hold exactly one operator"),
    ('{"a":[{"prefix":"x","suffix":"y"}]}', "a[0]: must hold exactly one operator"),
    ('{"a":[{"exists":false,"prefix":"x"}]}', "a[0]: must hold exactly one operator"),
    ('{"a":[{"PREFIX":"x"}]}', f"a[0].PREFIX: {KNOWN}"),
    ('{"a":[1,{"b":[1]}]}', f"a[1].b: {KNOWN}"),
    ('{"a":[{"wildcard":"x*"}]}', f"a[0].wildcard: {EVENTBRIDGE}"),
    ('{"a":[{"cidr":"10.0.0.0/8"}]}', f"a[0].cidr: {EVENTBRIDGE}"),
    ('{"a":[{"equals-ignore-case":["x"]}]}', "a[0].equals-ignore-case: must be a string"),
    ('{"a":[{"equals-ignore-case":{"prefix":"x"}}]}', "a[0].equals-ignore-case: must be a string"),
    ('{"a":[{"prefix":1}]}', "a[0].prefix: must be a string"),
    ('{"a":[{"prefix":["x"]}]}', "a[0].prefix: must be a string"),
    ('{"a":[{"prefix":{"suffix":"x"}}]}', f"a[0].prefix: {AFFIX}"),
    ('{"a":[{"prefix":{}}]}', f"a[0].prefix: {AFFIX}"),
    ('{"a":[{"suffix":null}]}', "a[0].suffix: must be a string"),
    ('{"a":[{"suffix":{"equals-ignore-case":1}}]}', "a[0].suffix.equals-ignore-case: must be a string"),
    # anything-but
    ('{"a":[{"anything-but":null}]}', f"a[0].anything-but: {ANYTHING_BUT}"),
    ('{"a":[{"anything-but":true}]}', f"a[0].anything-but: {ANYTHING_BUT}"),
    ('{"a":[{"anything-but":[]}]}', f"a[0].anything-but: {ANYTHING_BUT}"),
    ('{"a":[{"anything-but":[null]}]}', f"a[0].anything-but: {ANYTHING_BUT}"),
    ('{"a":[{"anything-but":["x",1]}]}', f"a[0].anything-but: {ANYTHING_BUT}"),
    ('{"a":[{"anything-but":[["x"]]}]}', f"a[0].anything-but: {ANYTHING_BUT}"),
    ('{"a":[{"anything-but":{}}]}', f"a[0].anything-but: {NEGATABLE}"),
    ('{"a":[{"anything-but":{"numeric":["=",1]}}]}', f"a[0].anything-but: {NEGATABLE}"),
    ('{"a":[{"anything-but":{"wildcard":"x"}}]}', f"a[0].anything-but: {NEGATABLE}"),
    ('{"a":[{"anything-but":{"prefix":"x","suffix":"y"}}]}', f"a[0].anything-but: {NEGATABLE}"),
    ('{"a":[{"anything-but":{"prefix":1}}]}', "a[0].anything-but.prefix: must be a string or a list of strings"),
    ('{"a":[{"anything-but":{"prefix":[]}}]}', "a[0].anything-but.prefix: must be a string or a list of strings"),
    ('{"a":[{"anything-but":{"suffix":["x",1]}}]}', "a[0].anything-but.suffix: must be a string or a list of strings"),
    (
        '{"a":[{"anything-but":{"prefix":{"equals-ignore-case":"x"}}}]}',
        "a[0].anything-but.prefix: must be a string or a list of strings",
    ),
    ('{"a":[{"anything-but":{"prefix":""}}]}', "a[0].anything-but.prefix: must not be empty: nothing could match"),
    # numeric
    ('{"a":[{"numeric":10}]}', f"a[0].numeric: {NUMERIC}"),
    ('{"a":[{"numeric":[]}]}', f"a[0].numeric: {NUMERIC}"),
    ('{"a":[{"numeric":[">"]}]}', f"a[0].numeric: {NUMERIC}"),
    ('{"a":[{"numeric":[">",0,"<"]}]}', f"a[0].numeric: {NUMERIC}"),
    ('{"a":[{"numeric":[">",0,"<",2,"=",1]}]}', f"a[0].numeric: {NUMERIC}"),
    ('{"a":[{"numeric":["!=",1]}]}', "a[0].numeric[0]: must be one of = > >= < <="),
    ('{"a":[{"numeric":[1,">"]}]}', "a[0].numeric[0]: must be one of = > >= < <="),
    ('{"a":[{"numeric":[[],1]}]}', "a[0].numeric[0]: must be one of = > >= < <="),
    ('{"data":{"order":[{"numeric":[">","10"]}]}}', f"data.order[0].numeric[1]: {BOUND}"),
    ('{"a":[{"numeric":["=",null]}]}', f"a[0].numeric[1]: {BOUND}"),
    ('{"a":[{"numeric":["=",5000000000.1]}]}', f"a[0].numeric[1]: {BOUND}"),
    ('{"a":[{"numeric":[">=",-5000000001]}]}', f"a[0].numeric[1]: {BOUND}"),
    ('{"a":[{"numeric":["=",1.000000000000001]}]}', f"a[0].numeric[1]: {BOUND}"),
    ('{"a":[{"numeric":["=",1e999999999]}]}', f"a[0].numeric[1]: {BOUND}"),
    ('{"a":[{"numeric":["=",1e99999999999999999999]}]}', f"a[0].numeric[1]: {BOUND}"),
    ('{"a":[{"numeric":[">",0,"<",6e9]}]}', f"a[0].numeric[3]: {BOUND}"),
    ('{"a":[{"numeric":[">",0,">",1]}]}', "a[0].numeric: must begin a range with > or >= and end it with < or <="),
    ('{"a":[{"numeric":["<",1,">",0]}]}', "a[0].numeric: must begin a range with > or >= and end it with < or <="),
    ('{"a":[{"numeric":["=",1,"<",2]}]}', "a[0].numeric: must begin a range with > or >= and end it with < or <="),
    ('{"a":[{"numeric":[">",2,"<",1]}]}', "a[0].numeric: must have a lower bound below the upper one"),
    ('{"a":[{"numeric":[">=",1,"<=",1.0]}]}', "a[0].numeric: must have a lower bound below the upper one"),
    # exists
    ('{"a":[{"exists":"true"}]}', "a[0].exists: must be true or false"),
    ('{"a":[{"exists":null}]}', "a[0].exists: must be true or false"),
    ('{"a":[{"exists":0}]}', "a[0].exists: must be true or false"),
    # $or
    ('{"$or":{"a":[1]}}', f"$or: {ALTERNATIVES}"),
    ('{"$or":[]}', f"$or: {ALTERNATIVES}"),
    ('{"$or":[{"a":[1]}]}', f"$or: {ALTERNATIVES}"),
    ('{"$or":["a","b"]}', f"$or: {ALTERNATIVES}"),
    ('{"$or":[{"a":[1]},{}]}', f"$or: {ALTERNATIVES}"),
    ('{"$or":[{"a":[1]},{"b":2}]}', f"$or[1].b: {LISTED}"),
    ('{"a":{"$or":[{"b":[1]},{"c":[{"exists":1}]}]}}', "a.$or[1].c[0].exists: must be true or false"),
    # size
    ('{"a":["' + "x" * 4087 + '"]}', "the pattern: must have at most 4096 characters"),
]


@pytest.mark.parametrize(("pattern", "where_and_why"), REFUSED, ids=[row[0][:60] for row in REFUSED])
def test_what_is_no_pattern_is_refused_with_its_place(pattern: str, where_and_why: str) -> None:
    with pytest.raises(InvalidPattern) as refused:
        compile_pattern(pattern)
    assert str(refused.value) == f"Invalid filter pattern definition. {where_and_why}"


@pytest.mark.parametrize("key", [DataKey.KINESIS, DataKey.DYNAMODB])
@pytest.mark.parametrize(
    "pattern", ['{"KEY":["text"]}', '{"KEY":[1,"text"]}', '{"$or":[{"a":[1]},{"$or":[{"b":[1]},{"KEY":["text"]}]}]}']
)
def test_plain_texts_of_a_stream_cannot_be_filtered(key: DataKey, pattern: str) -> None:  # E.2
    with pytest.raises(InvalidPattern) as refused:
        compile_pattern(pattern.replace("KEY", key), key)
    why = "must be an object of fields: only JSON data can be filtered, not text"
    assert str(refused.value) == f"Invalid filter pattern definition. {key}: {why}"


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        ('{"body":["text"]}', DataKey.SQS),
        ('{"data":["text"]}', DataKey.DYNAMODB),
        ('{"data":["text"]}', None),
        ('{"data":[{"exists":true}]}', DataKey.KINESIS),
        ('{"data":{"data":["text"]}}', DataKey.KINESIS),
    ],
)
def test_plain_texts_elsewhere_can(pattern: str, key: DataKey | None) -> None:
    assert compile_pattern(pattern, key).conditions_on("data" if "data" in pattern else "body")


def test_a_pattern_of_the_greatest_length_is_accepted() -> None:
    text = "x" * 4086
    assert matches('{"a":["' + text + '"]}', '{"a":"' + text + '"}')


def nested(levels: int, core: str = "[1]") -> str:
    return '{"a":' * levels + core + "}" * levels


def test_a_pattern_may_be_nested_deeply_but_not_without_bound() -> None:
    assert matches(nested(DEEPEST_PATTERN), nested(DEEPEST_PATTERN, "[[1]]"))
    with pytest.raises(InvalidPattern, match=r"^Invalid filter pattern definition\. the pattern: nested"):
        compile_pattern(nested(DEEPEST_PATTERN + 1))


@pytest.mark.parametrize("pattern", [nested(680), '{"a":' + "[" * 2045 + "]" * 2045 + "}", '{"$or":[' * 450])
def test_a_pattern_nested_beyond_the_stack_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidPattern):
        compile_pattern(pattern)


def deep(levels: int, step: Any) -> Any:
    value: Any = parse_json("1")
    for _ in range(levels):
        value = step(value)
    return value


@pytest.mark.parametrize(
    "pattern", ['{"a":[2]}', '{"a":{"a":[2]}}', '{"a":{"b":[{"exists":true}]}}', nested(99, "[2]")]
)
@pytest.mark.parametrize("step", [lambda one: [one], lambda one: {"a": one}, lambda one: [{"a": [one]}]])
def test_an_event_nested_beyond_the_stack_is_matched_all_the_same(pattern: str, step: Any) -> None:
    assert not compile_pattern(pattern).matches({"a": deep(20_000, step)})


def test_an_element_is_found_however_deep_its_lists_are() -> None:
    assert compile_pattern('{"a":[1]}').matches({"a": deep(20_000, lambda one: [one])})


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "NaN", "", "\ud800"])
def test_json_that_cannot_be_parsed_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_a_number_of_any_length_is_parsed_in_no_time() -> None:
    digits = "9" * 200_000
    assert matches('{"a":[{"numeric":[">",1]}]}', f'{{"a":{digits}}}')
    assert not matches('{"a":[1]}', f'{{"a":{digits}}}')


def test_a_pattern_as_json_dumps_writes_it_is_the_same() -> None:
    pattern = json.dumps({"data": {"kind": ["order", {"prefix": "ä"}], "total": [{"numeric": [">", 10, "<=", 20.5]}]}})
    assert matches(pattern, '{"data":{"kind":"ärger","total":20.50}}')


def test_a_bound_has_up_to_fifteen_digits_and_zeros_at_its_ends_are_none() -> None:
    assert compile_pattern('{"a":[{"numeric":["=",1.23456789012345]}]}').matches(parse_json('{"a":1.23456789012345}'))
    assert compile_pattern('{"a":[{"numeric":["=",0.000123456789012345000]}]}').matches(
        parse_json('{"a":0.000123456789012345}')
    )
    with pytest.raises(InvalidPattern):
        compile_pattern('{"a":[{"numeric":["=",1.234567890123456]}]}')
