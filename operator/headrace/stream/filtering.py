"""Which records reach the function (contract E.1, E.2). Pure: a record's JSON in, kept or dropped out.

Before this: a source's reader. After this: `lanes.py`. The bytes that are delivered are only looked at; a dropped
record counts as processed, so the checkpoint passes it (contract E.3).
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace.filter_patterns import DataKey, Leaf, compile_pattern, parse_json

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from headrace.filter_patterns import Pattern


class _Data(NamedTuple):
    """A record's data as patterns see them; `plain` says that they are text and no JSON."""

    value: Any
    plain: bool = False


class _OnData(NamedTuple):
    """A pattern that asks for data, and the forms of data that it can match (contract E.2)."""

    pattern: Pattern
    takes_json: bool
    takes_text: bool


class Filter:
    """Patterns of which one must match."""

    def __init__(self, patterns: Sequence[Pattern], data_key: DataKey) -> None:
        self._data_key = data_key
        self._on_metadata = [one for one in patterns if not one.conditions_on(data_key)]
        self._on_data = [_on_data(one, data_key) for one in patterns if one.conditions_on(data_key)]

    def keeps(self, event: bytes) -> bool:
        """Whether a record is for the function; `event` is its JSON as it stands in the Lambda event (contract D)."""
        try:
            record = parse_json(event.decode())
        except ValueError:
            return False
        if any(pattern.matches(record) for pattern in self._on_metadata):
            return True
        return bool(self._on_data) and self._keeps_data(record)

    def asks_in_vain(self, event: bytes) -> bool:
        """Whether a record's data are no JSON, though every pattern on them asks for some: a mistake, most likely."""
        if not self._on_data or any(one.takes_text for one in self._on_data):
            return False
        try:
            data = _data_of(parse_json(event.decode()), self._data_key)
        except ValueError:
            return True
        return data is None or data.plain

    def _keeps_data(self, record: dict[str, Any]) -> bool:
        data = _data_of(record, self._data_key)
        if data is None:
            return False
        seen = {**record, self._data_key.value: data.value}
        return any(
            (one.takes_text if data.plain else one.takes_json) and one.pattern.matches(seen) for one in self._on_data
        )


def compile_filters(patterns: Sequence[str], data_key: DataKey) -> Filter | None:
    """The filter of a mapping, None when it takes every record; raises InvalidPattern."""
    return Filter([compile_pattern(text, data_key) for text in patterns], data_key) if patterns else None


def never_matching(patterns: Sequence[str], known: Container[str]) -> Iterator[tuple[int, str]]:
    """The patterns, by their index, that ask for a field that no record has, and the first such field of each."""
    for index, text in enumerate(patterns):
        for field in compile_pattern(text).fields_beyond(known)[:1]:
            yield index, field


def _on_data(pattern: Pattern, data_key: DataKey) -> _OnData:
    """An object asks for JSON, a list with a text in it for plain text; a list without takes either."""
    lists = [one for one in pattern.conditions_on(data_key) if isinstance(one, Leaf)]
    objects = len(lists) < len(pattern.conditions_on(data_key))
    return _OnData(pattern, objects or not all(one.names_text for one in lists), bool(lists))


def _data_of(record: dict[str, Any], data_key: DataKey) -> _Data | None:
    """Decodes the data for matching (contract E.1); None for what no pattern on data can match."""
    match data_key:
        case DataKey.KINESIS:
            return _json_of(_decoded(record["kinesis"]["data"]))
        case DataKey.DYNAMODB:
            return _Data(record.get(data_key))
        case DataKey.SQS:
            return _json_of(record["body"].encode()) or _Data(record["body"], plain=True)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:  # no base64: a source's fault, which no pattern can match
        return b""


def _json_of(data: bytes) -> _Data | None:
    try:
        return _Data(parse_json(data.decode()))
    except ValueError:  # neither UTF-8 nor JSON
        return None
