"""Filter patterns: what a mapping asks of its records (contract E.4). Pure: text in, a `Pattern` or a refusal out.

A pattern is an object of fields. Under a field stands another object, or a list of values and operators of which one
must hold (`filter_operators.py`). What of a record a pattern sees is said in `stream/filtering.py`.

Patterns and events are parsed by `parse_json`, which keeps a number's text. Matching goes no deeper than the pattern
does, and looks at each value of an event at most once for each part of the pattern.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from headrace.filter_operators import InvalidPattern, Number, Path, Scalar, Test, compile_operator

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

LONGEST_PATTERN = 4096
"""Characters of a pattern (contract A.1)."""
DEEPEST_PATTERN = 100
"""Objects within each other; the contract names no limit, the stack has one."""

_OR = "$or"
_NOTHING: list[Any] = []
"""What a missing field holds: no values, just as an empty list."""


class DataKey(StrEnum):
    """The top-level field in which patterns see a source's data (contract E.1)."""

    KINESIS = "data"
    DYNAMODB = "dynamodb"
    SQS = "body"


_JSON_ONLY = (DataKey.KINESIS, DataKey.DYNAMODB)
"""Sources of which plain texts cannot be filtered (contract E.2)."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A list under a field: one of `values`, one of `tests`, or the field's absence."""

    path: tuple[str, ...]
    values: frozenset[Scalar]
    tests: tuple[Test, ...]
    absence: bool

    @property
    def names_text(self) -> bool:
        """Whether a plain text is among the values."""
        return any(isinstance(value, str) for value in self.values)

    def matches(self, value: Any, event: Any) -> bool:
        """Whether one element of a field's value holds; an object is no element, it lies between."""
        for element in elements(value):
            if not isinstance(element, dict) and self._holds(element):
                return True
        return self.absence and not _occurs(event, self.path)

    def _holds(self, element: Scalar) -> bool:
        return element in self.values or any(test(element) for test in self.tests)


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of a pattern: every member must match, and one of the alternatives of `$or` if there are any."""

    members: tuple[tuple[str, Fields | Leaf], ...]
    alternatives: tuple[Fields, ...] = ()

    def matches(self, value: Any, event: Any) -> bool:
        """Whether one object among a field's values matches as a whole; where there is none, all fields are missing."""
        objects = [element for element in elements(value) if isinstance(element, dict)]
        return any(self._holds(one, event) for one in objects or [{}])

    def _holds(self, one: dict[str, Any], event: Any) -> bool:
        if not all(condition.matches(one.get(name, _NOTHING), event) for name, condition in self.members):
            return False
        return not self.alternatives or any(fields._holds(one, event) for fields in self.alternatives)  # noqa: SLF001


Condition = Fields | Leaf


@dataclass(frozen=True, slots=True)
class Pattern:
    """A filter pattern that is valid."""

    fields: Fields

    def matches(self, event: Any) -> bool:
        """Whether an event, parsed by `parse_json`, is one that the pattern asks for."""
        return self.fields.matches(event, event)

    def fields_beyond(self, known: Container[str]) -> tuple[str, ...]:
        """Top-level fields that it asks for and no record has, if only these are `known`: then it matches none."""
        return tuple(dict.fromkeys(_fields_beyond(self.fields, known)))

    def conditions_on(self, name: str) -> tuple[Condition, ...]:
        """What the pattern asks of a top-level field, within `$or` as well."""
        return tuple(_conditions_on(name, self.fields))


def compile_pattern(text: str, data_key: DataKey | None = None) -> Pattern:
    """Reads a pattern for a source whose data stand under `data_key`; None asks nothing of what stands there.

    Raises InvalidPattern, whose text is a sentence for whoever wrote the pattern: it names the path or, where the text
    is no JSON, the character.
    """
    if len(text) > LONGEST_PATTERN:
        raise InvalidPattern(f"must have at most {LONGEST_PATTERN} characters")
    try:
        parsed = parse_json(text)
    except json.JSONDecodeError as error:
        raise InvalidPattern("malformed JSON", position=error.pos) from None
    except ValueError as error:
        raise InvalidPattern(str(error)) from None
    if not isinstance(parsed, dict):
        raise InvalidPattern("must be a JSON object")
    pattern = Pattern(_fields(parsed, ()))
    if data_key in _JSON_ONLY:
        _refuse_text(pattern, data_key)
    return pattern


def parse_json(text: str) -> Any:
    """JSON with every number as a `Number`; of duplicate keys the last counts.

    Raises json.JSONDecodeError, or another ValueError for NaN, infinities and what is nested too deeply to be parsed.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def elements(value: Any) -> Iterator[Any]:
    """The values of a field: the value itself or, where it is a list, its elements, through lists in lists."""
    if not isinstance(value, list):
        yield value
        return
    pending = [iter(value)]
    while pending:
        for element in pending[-1]:
            if isinstance(element, list):
                pending.append(iter(element))
                break
            yield element
        else:
            pending.pop()


def _occurs(event: Any, path: tuple[str, ...]) -> bool:
    """Whether anything stands at a path, in any element of the lists on the way."""
    values = [event]
    for name in path:
        values = [element[name] for element in elements(values) if isinstance(element, dict) and name in element]
    return any(True for _ in elements(values))


def _fields_beyond(fields: Fields, known: Container[str]) -> tuple[str, ...]:
    missing = tuple(name for name, one in fields.members if name not in known and not one.matches(_NOTHING, {}))
    each = [_fields_beyond(one, known) for one in fields.alternatives]
    return missing or (tuple(name for names in each for name in names) if all(each) else ())


# ---- reading a pattern


def _fields(parsed: dict[str, Any], at: Path) -> Fields:
    if len(at) >= DEEPEST_PATTERN:
        raise InvalidPattern(f"nested more than {DEEPEST_PATTERN} levels deep")
    members = tuple((name, _condition(one, (*at, name))) for name, one in parsed.items() if name != _OR)
    return Fields(members, _alternatives(parsed[_OR], (*at, _OR)) if _OR in parsed else ())


def _condition(parsed: Any, at: Path) -> Condition:
    if not parsed or not isinstance(parsed, dict | list):
        raise InvalidPattern("must be a list of values, not empty, or an object of fields, not empty", at)
    return _fields(parsed, at) if isinstance(parsed, dict) else _leaf(parsed, at)


def _alternatives(parsed: Any, at: Path) -> tuple[Fields, ...]:
    fit = isinstance(parsed, list) and len(parsed) > 1 and all(one and isinstance(one, dict) for one in parsed)
    if not fit:
        raise InvalidPattern("must be a list of two or more objects of fields, none empty", at)
    return tuple(_fields(one, (*at, index)) for index, one in enumerate(parsed))


def _leaf(parsed: list[Any], at: Path) -> Leaf:
    values: set[Scalar] = set()
    tests: list[Test] = []
    absence = False
    for index, one in enumerate(parsed):
        match one:
            case {"exists": False} if len(one) == 1:
                absence = True
            case dict():
                tests.append(compile_operator(one, (*at, index)))
            case list():
                raise InvalidPattern("must be a string, number, true, false, null or an operator", (*at, index))
            case _:
                values.add(one)
    # A field's name is never $or, and the only indices on the way are those of its alternatives.
    path = tuple(step for step in at if isinstance(step, str) and step != _OR)
    return Leaf(path, frozenset(values), tuple(tests), absence)


def _refuse_text(pattern: Pattern, data_key: DataKey) -> None:
    for condition in pattern.conditions_on(data_key):
        if isinstance(condition, Leaf) and condition.names_text:
            raise InvalidPattern("must be an object of fields: only JSON data can be filtered, not text", (data_key,))


def _conditions_on(name: str, fields: Fields) -> Iterator[Condition]:
    yield from (condition for member, condition in fields.members if member == name)
    for alternative in fields.alternatives:
        yield from _conditions_on(name, alternative)


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_no_number)
