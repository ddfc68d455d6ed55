"""What pydantic found wrong, in sentences for whoever wrote the manifest. Pure.

Each begins with the property's path in the manifest's own spelling. Texts that were given are never repeated, except
where only certain words are allowed: they may hold secrets.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from headrace.spec_schema import Schema, at, schema_of, words_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

RULES_BROKEN = "rules_broken"
"""Type of the validation error that carries the sentences of broken rules."""

_LONGEST_ECHO = 40
_KEY = "[key]"
_FEW = 8


def sentences(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One sentence per fault, in the order of the model's properties."""
    schema = schema_of(model)
    found: list[str] = []
    faults = error.errors(include_url=False)
    for one in faults:
        if not _is_echo(one, faults):
            found += _sentences_of(one, schema)
    return list(dict.fromkeys(found))


def _is_echo(fault: ErrorDetails, faults: list[ErrorDetails]) -> bool:
    """Whether a list is found too short only because an entry of it is wrong."""
    depth = len(fault["loc"])
    return fault["type"] == "too_short" and any(
        len(one["loc"]) > depth and one["loc"][:depth] == fault["loc"] for one in faults
    )


def _sentences_of(error: ErrorDetails, schema: Schema) -> Iterable[str]:
    location, context = error["loc"], error.get("ctx", {})
    path = _path(location)
    match error["type"]:
        case "rules_broken":
            return [f"{path}.{sentence}" for sentence in context["sentences"]]
        case "refused":
            return [f"{path}: {context['sentence']}"]
        case "missing":
            return [f"{path}: is required"]
        case "extra_forbidden":
            return [_unknown(location, schema)]
        case "recursion_loop":
            return [f"{path}: must not contain itself"]
        case "invalid_key":
            return [f"{path}: must have texts as names"]
    if location and location[-1] == _KEY:
        return [f"{_path(location[:-2])}: must have {_names(context)}"]
    return [f"{path}: must be {words_for(at(schema, location))}{_got(error['input'], location, schema)}"]


def _names(context: dict[str, Any]) -> str:
    if "max_length" in context:
        return f"names of at most {context['max_length']} characters"
    return "names that are not empty" if "min_length" in context else "texts as names"


def _unknown(location: tuple[int | str, ...], schema: Schema) -> str:
    name = str(location[-1])
    known = list(at(schema, location[:-1]).get("properties", {}))
    lowered = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower().replace("_", "").replace("-", ""), lowered, n=1, cutoff=0.6)
    hint = (
        f"; did you mean {lowered[near[0]]}?"
        if near
        else f"; known are {', '.join(known)}"
        if len(known) <= _FEW
        else ""
    )
    owner = f"{_path(location[:-1])}" if len(location) > 2 else "EventSourceMapping"  # noqa: PLR2004 - spec.NAME
    return f"{_path((*location[:-1], _short(name)))}: is not a property of {owner}{hint}"


def _path(location: Iterable[int | str]) -> str:
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step != _KEY:
            path += f".{_printable(step)}" if path else _printable(step)
    return path or "the document"


def _got(value: Any, location: tuple[int | str, ...], schema: Schema) -> str:
    if "headers" in location or isinstance(value, list | dict | tuple):
        return ""
    if isinstance(value, bool):
        return f", got {str(value).lower()}"
    if isinstance(value, int | float):
        return f", got {_short(str(value))}"
    told = at(schema, location)
    return f", got {_short(value)}" if isinstance(value, str) and ("enum" in told or "const" in told) else ""


def _short(text: str) -> str:
    text = _printable(text)
    return text if len(text) <= _LONGEST_ECHO else f"{text[:_LONGEST_ECHO]}…"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
