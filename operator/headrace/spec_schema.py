"""JSON schema of the models without references and nulls: what the CRD and errors' sentences are made of. Pure."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from headrace.spec_base import ALLOWED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel

Schema = dict[str, Any]

_TYPES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping of names to values",
}
_UNITS = {"string": ("Length", "characters"), "array": ("Items", "entries"), "object": ("Properties", "entries")}
_SINGULAR = {" characters": " character", " entries": " entry", "": ""}


@cache
def schema_of(model: type[BaseModel]) -> Schema:
    """The schema of a model, references resolved, null left out (it means absent); do not change it."""
    document = model.model_json_schema(by_alias=True)
    schema: Schema = _inlined(document, document.get("$defs", {}))
    return schema


def _inlined(node: Any, definitions: Schema) -> Any:
    if isinstance(node, list):
        return [_inlined(one, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    node = {key: value for key, value in node.items() if key not in {"$defs", "default"}} | _default(node)
    if "$ref" in node:
        target = definitions[node.pop("$ref").rpartition("/")[2]]
        return _inlined(target | node, definitions)
    branches = [one for one in node.get("anyOf", ()) if one != {"type": "null"}]
    if len(branches) == 1:
        del node["anyOf"]
        return _inlined(branches[0] | node, definitions)
    return {
        key: {name: _inlined(one, definitions) for name, one in value.items()}
        if key == "properties"
        else _inlined(value, definitions)
        for key, value in node.items()
        if key != "title"
    }


def _default(node: Schema) -> Schema:
    return {} if node.get("default") is None else {"default": _without_nulls(node["default"])}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return value


def at(schema: Schema, location: Iterable[int | str]) -> Schema:
    """The schema of what lies at a location (property names and list indices); {} where anything goes."""
    for step in location:
        if isinstance(step, int):
            schema = schema.get("items", {})
        else:
            extra = schema.get("additionalProperties")
            schema = schema.get("properties", {}).get(step) or (extra if isinstance(extra, dict) else {})
    return schema


def words_for(schema: Schema) -> str:
    """What a schema allows, to follow "must be"."""
    if ALLOWED in schema:
        return str(schema[ALLOWED])
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    if values:
        return _either([str(value) for value in values])
    kind = schema.get("type", "")
    lowest, highest, unit = _bounds(schema, kind)
    return " ".join(filter(None, (_TYPES.get(kind, "a valid value"), _range(lowest, highest, unit))))


def _bounds(schema: Schema, kind: str) -> tuple[float | None, float | None, str]:
    if kind not in _UNITS:
        return schema.get("minimum"), schema.get("maximum"), ""
    suffix, unit = _UNITS[kind]
    return schema.get(f"min{suffix}"), schema.get(f"max{suffix}"), f" {unit}"


def _range(lowest: float | None, highest: float | None, unit: str) -> str:
    of = "of " if unit else ""
    if lowest is not None and lowest == highest:
        return f"of exactly {lowest}{unit if lowest != 1 else _SINGULAR[unit]}"
    if lowest is not None and highest is not None:
        return f"{of or 'from '}{lowest:g} to {highest}{unit}"
    if highest is not None:
        return f"of at most {highest}{unit}"
    return f"of at least {lowest}{unit}" if lowest is not None else ""


def _either(values: list[str]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"
