"""Filter patterns against a deliberately naive reading of contract E.4, and laws that hold whatever is asked.

The oracle knows no trees: it writes a pattern out as alternatives of `path → list of conditions`, an event as every
choice of one element from each of its lists, and tries all of them. Both are generated as plain values (numbers as
`Literal`, so that their text is the oracle's own) and only written to JSON for the code under test.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, combinations, product
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.filter_operators import InvalidPattern
from headrace.filter_patterns import DataKey, compile_pattern, parse_json
from headrace.stream.filtering import compile_filters

settings.register_profile("filters", deadline=None, max_examples=300, derandomize=True, database=None)
FILTERS = settings.get_profile("filters")

NAMES = ("a", "b", "c")
TEXTS = ("", "a", "A", "ab", "1")
NUMBERS = ("1", "1.0", "2", "-1")


@dataclass(frozen=True)
class Literal:
    """A number as it is written."""

    text: str

    def __repr__(self) -> str:
        return self.text


def written(value: Any) -> str:
    match value:
        case Literal():
            return value.text
        case dict():
            return "{" + ",".join(f"{json.dumps(name)}:{written(one)}" for name, one in value.items()) + "}"
        case list():
            return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


def decided(pattern: Any, event: Any) -> bool:
    """What the code under test says."""
    return compile_pattern(written(pattern)).matches(parse_json(written(event)))


# ---- patterns and events, of few names and values, and the events such that matches are frequent

NUMBERS_AND_TEXTS = [*map(Literal, NUMBERS), *TEXTS]
SCALARS = [*NUMBERS_AND_TEXTS, True, False, None]
SOME_TEXTS = [*TEXTS, *map(list, combinations(TEXTS, 2))]
SOME_FILLED_TEXTS = [*filter(None, TEXTS), *map(list, combinations(filter(None, TEXTS), 2))]
FOLDED = [{"equals-ignore-case": text} for text in TEXTS]
OPERATORS: list[dict[str, Any]] = [
    *FOLDED,
    *({affix: one} for affix in ("prefix", "suffix") for one in [*TEXTS, *FOLDED]),
    *({"anything-but": one} for one in [*NUMBERS_AND_TEXTS, ["a", "b"], [Literal("1"), Literal("2")]]),
    *({"anything-but": {"equals-ignore-case": one}} for one in SOME_TEXTS),
    *({"anything-but": {affix: one}} for affix in ("prefix", "suffix") for one in SOME_FILLED_TEXTS),
    *({"numeric": [operator, Literal(bound)]} for operator in ("=", ">", ">=", "<", "<=") for bound in NUMBERS),
    {"numeric": [">", Literal("-1"), "<", Literal("2")]},
    {"numeric": [">=", Literal("1"), "<=", Literal("2.0")]},
    *[{"exists": True}, {"exists": False}] * 4,
]


class Drawn:
    """One pattern, and an event that it may well match; hypothesis draws the seed (drawing each part takes too long)."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.pattern = self._fields(NAMES, 2)
        self.event = self._answer(self.pattern)

    def __repr__(self) -> str:
        return f"{written(self.pattern)} {written(self.event)}"

    def _fields(self, names: Sequence[str], depth: int) -> dict[str, Any]:
        """An object of a pattern; what `$or` asks for are other fields than those beside it."""
        members = self._random.sample(names, self._random.choice([1, 1, 2]) if len(names) > 1 else 1)
        fields = {name: self._condition(depth) for name in members}
        others = [name for name in names if name not in members]
        if others and depth and self._random.random() < 0.25:
            fields["$or"] = [self._fields(others, depth - 1) for _ in range(self._random.choice([2, 3]))]
        return fields

    def _condition(self, depth: int) -> Any:
        if depth and self._random.random() < 0.4:
            return self._fields(NAMES, depth - 1)
        return self._random.choices([*SCALARS * 3, *OPERATORS], k=self._random.choice([1, 2, 3]))

    def _answer(self, fields: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        for name, condition in fields.items():
            if name == "$or":
                answer |= self._answer(self._random.choice(condition))
            elif self._random.random() < 0.9:
                answer[name] = self._value(condition)
        if self._random.random() < 0.3:
            answer[self._random.choice(NAMES)] = self._noise(2)
        return answer

    def _value(self, condition: Any) -> Any:
        if isinstance(condition, dict):
            fit: Any = self._answer(condition)
        else:
            fit = self._random.choice([one for one in condition if not isinstance(one, dict)] or SCALARS)
        if self._random.random() < 0.3:
            return [*(self._noise(1) for _ in range(self._random.randrange(3))), fit]
        return fit

    def _noise(self, depth: int) -> Any:
        match self._random.randrange(4 if depth else 2):
            case 2:
                return [self._noise(depth - 1) for _ in range(self._random.randrange(3))]
            case 3:
                return {name: self._noise(depth - 1) for name in NAMES if self._random.random() < 0.5}
        return self._random.choice(SCALARS)


numbers_and_texts = st.sampled_from(NUMBERS_AND_TEXTS)
scalars = st.sampled_from(SCALARS)
operators = st.sampled_from(OPERATORS)
cases = st.integers(0, 2**48).map(Drawn)
patterns = cases.map(lambda drawn: drawn.pattern)
events = cases.map(lambda drawn: drawn.event)


# ---- the oracle


def expanded(pattern: dict[str, Any], path: tuple[str, ...] = ()) -> list[list[tuple[tuple[str, ...], list[Any]]]]:
    """A pattern as alternatives, each a list of (path, conditions) that must all hold."""
    parts = []
    for name, one in pattern.items():
        if name == "$or":
            parts.append(list(chain.from_iterable(expanded(alternative, path) for alternative in one)))
        elif isinstance(one, dict):
            parts.append(expanded(one, (*path, name)))
        else:
            parts.append([[((*path, name), one)]])
    return [list(chain.from_iterable(choice)) for choice in product(*parts)]


def chosen(value: Any) -> list[Any]:
    """A value in every way in which one element is taken from each of its lists; none of an empty list."""
    if isinstance(value, list):
        return list(chain.from_iterable(map(chosen, value)))
    if not isinstance(value, dict):
        return [value]
    ways = [[{name: one} for one in chosen(inner)] or [{}] for name, inner in value.items()]
    return [dict(chain.from_iterable(part.items() for part in way)) for way in product(*ways)]


def at(value: Any, path: tuple[str, ...]) -> list[Any]:
    """What stands at a path of an event without lists: one thing or nothing."""
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return []
        value = value[name]
    return [value]


def expected(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    ways = chosen(event)
    return any(
        all(any(holds(one, path, way, ways) for one in conditions) for path, conditions in alternative)
        for alternative in expanded(pattern)
        for way in ways
    )


def holds(condition: Any, path: tuple[str, ...], way: Any, ways: list[Any]) -> bool:
    if condition == {"exists": False}:
        return not any(at(one, path) for one in ways)
    return any(not isinstance(value, dict) and passes(condition, value) for value in at(way, path))


def passes(condition: Any, value: Any) -> bool:
    """Whether a value that is no object and no list passes one condition."""
    if not isinstance(condition, dict):
        return written(condition) == written(value)
    (operator, operand) = next(iter(condition.items()))
    match operator:
        case "exists":
            return True
        case "equals-ignore-case":
            return isinstance(value, str) and value.upper() == operand.upper()
        case "prefix" | "suffix" if isinstance(operand, dict):
            inner = operand["equals-ignore-case"]
            return isinstance(value, str) and passes({operator: inner.upper()}, value.upper())
        case "prefix":
            return isinstance(value, str) and value[: len(operand)] == operand
        case "suffix":
            return (
                isinstance(value, str) and value[len(value) - len(operand) :] == operand and len(value) >= len(operand)
            )
        case "numeric":
            return isinstance(value, Literal) and all(
                compared(value, *operand[index : index + 2]) for index in range(0, len(operand), 2)
            )
    if isinstance(operand, dict):  # anything-but
        (inner, listed) = next(iter(operand.items()))
        return not any(passes({inner: one}, value) for one in (listed if isinstance(listed, list) else [listed]))
    return not any(passes(one, value) for one in (operand if isinstance(operand, list) else [operand]))


def compared(value: Literal, operator: str, bound: Literal) -> bool:
    left, right = Fraction(value.text), Fraction(bound.text)
    return (
        (left < right and "<" in operator) or (left > right and ">" in operator) or (left == right and "=" in operator)
    )


@settings(FILTERS, max_examples=4_000)
@given(cases)
def test_a_pattern_decides_as_the_naive_reading_does(drawn: Drawn) -> None:
    assert decided(drawn.pattern, drawn.event) is expected(drawn.pattern, drawn.event)


def test_the_drawn_cases_tell_matches_from_misses() -> None:
    told = [expected(drawn.pattern, drawn.event) for drawn in map(Drawn, range(300))]
    assert 60 < sum(told) < 240


# ---- laws


@FILTERS
@given(events, st.data())
def test_a_pattern_of_an_events_own_values_matches(event: dict[str, Any], data: st.DataObject) -> None:
    def spelled(value: Any) -> Any:
        return {name: spelled(one) for name, one in value.items()} if isinstance(value, dict) else [value]

    def trimmed(value: Any) -> Any:
        """Without objects in which nothing is left to ask for."""
        if not isinstance(value, dict):
            return value
        inner = {name: trimmed(one) for name, one in value.items()}
        return {name: one for name, one in inner.items() if one != {}}

    assert decided(spelled(trimmed(data.draw(st.sampled_from(chosen(event))))), event)


@FILTERS
@given(st.lists(patterns, max_size=2), cases)
def test_filters_are_the_or_of_their_patterns(others: list[dict[str, Any]], drawn: Drawn) -> None:
    several, event = [*others, drawn.pattern], drawn.event
    kept = compile_filters([written(one) for one in several], DataKey.DYNAMODB)
    assert kept is not None
    assert kept.keeps(written(event).encode()) is any(decided(one, event) for one in several)


@FILTERS
@given(cases, events)
def test_a_field_that_is_not_listed_changes_nothing(drawn: Drawn, value: dict[str, Any]) -> None:
    assert decided(drawn.pattern, {**drawn.event, "unlisted": value}) is decided(drawn.pattern, drawn.event)


@FILTERS
@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), events)
def test_a_leaf_exists_or_does_not(path: list[str], event: dict[str, Any]) -> None:
    def asking(present: bool) -> Any:
        pattern: Any = [{"exists": present}]
        for name in reversed(path):
            pattern = {name: pattern}
        return pattern

    found = list(chain.from_iterable(at(way, tuple(path)) for way in chosen(event)))
    if found and all(isinstance(one, dict) for one in found):
        assert not decided(asking(True), event)
        assert not decided(asking(False), event)
    else:
        assert decided(asking(True), event) is not decided(asking(False), event)


@FILTERS
@given(numbers_and_texts, scalars)
def test_anything_but_a_value_is_its_contrary_for_a_field_that_is_there(value: Any, there: Any) -> None:
    assert decided({"a": [{"anything-but": value}]}, {"a": there}) is not decided({"a": [value]}, {"a": there})


@FILTERS
@given(operators, events)
def test_only_absence_matches_a_missing_field(operator: dict[str, Any], event: dict[str, Any]) -> None:
    assert decided({"missing": [operator]}, event) is (operator == {"exists": False})


@FILTERS
@given(cases, patterns)
def test_or_is_the_or_of_its_objects(drawn: Drawn, other: dict[str, Any]) -> None:
    either = decided(drawn.pattern, drawn.event) or decided(other, drawn.event)
    assert decided({"$or": [drawn.pattern, other]}, drawn.event) is either


# ---- whatever comes

nearly_json = st.text(st.sampled_from('{}[]":,ae1.$or prefixnumeric\\nul'), max_size=40)
broken = st.recursive(
    st.one_of(scalars, operators),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(["a", "$or", "numeric", "anything-but", "exists", "wildcard"]), inner, max_size=2
        ),
    ),
    max_leaves=8,
).map(written)


@settings(FILTERS, max_examples=600)
@given(st.one_of(st.text(), nearly_json, broken))
def test_any_text_is_a_pattern_or_refused_in_one_sentence(text: str) -> None:
    refusal = refused(text)
    assert refusal is None or (refusal.startswith("Invalid filter pattern definition. ") and refusal.isprintable())


def refused(text: str) -> str | None:
    try:
        compile_pattern(text, DataKey.KINESIS)
    except InvalidPattern as refusal:
        return str(refusal)
    return None


@FILTERS
@given(
    patterns,
    st.one_of(events.map(written).map(str.encode), st.binary(), st.text().map(str.encode), broken.map(str.encode)),
)
def test_any_data_are_kept_or_dropped(pattern: dict[str, Any], data: bytes) -> None:
    import base64

    asking = compile_filters([written({"data": pattern})], DataKey.KINESIS)
    assert asking is not None
    kept = asking.keeps(orjson.dumps({"kinesis": {"data": base64.b64encode(data).decode()}}))
    try:
        parse_json(data.decode())
    except ValueError:
        assert not kept
