"""What a Kubernetes API server (1.25 or newer) does with a mapping: null is absent, defaults, schema, then CEL.

The CEL is evaluated by Google's C++ implementation, which has the regular expressions of the API server's own (RE2).
As there, `self` is typed by the schema: what is no property of it cannot be named, and names that CEL keeps for itself
are escaped.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from cel_expr_python import cel
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from headrace.crd import crds

RESERVED = frozenset(
    {
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip
"""Words of CEL; Kubernetes calls a property of such a name `__NAME__`."""


def escaped(name: str) -> str:
    """A property's name in CEL."""
    return f"__{name}__" if name in RESERVED else name


def unescaped(name: str) -> str:
    """The property that CEL means."""
    bare = name.removeprefix("__").removesuffix("__")
    return bare if bare in RESERVED and name == escaped(bare) else name


def schema_of(file: str) -> dict[str, Any]:
    """The schema of a definition, below its root."""
    (version,) = crds()[file]["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


SPEC = schema_of("eventsourcemappings.yaml")
LEASE_SPEC = schema_of("shardleases.yaml")


def lease_refusals(spec: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    """What is told of the spec of a ShardLease."""
    data = {"self": _typed(LEASE_SPEC, spec), "oldSelf": _typed(LEASE_SPEC, old or {})}
    rules = _rules("shardleases.yaml", transitions=old is not None)
    return [message for message, rule in rules if not _holds(rule, data)]


def refusals(spec: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    """What is told of a spec that is created, or replaces `old`; without rules where the schema is not kept."""
    stored = admitted(spec)
    faults = [f"{_path(error)}: {error.message}" for error in _validator().iter_errors(stored)]
    if faults:
        return faults
    data = {"self": _typed(SPEC, stored)}
    if old is not None:
        data["oldSelf"] = _typed(SPEC, admitted(old))
    return [
        message
        for message, rule in _rules("eventsourcemappings.yaml", transitions=old is not None)
        if not _holds(rule, data)
    ]


def admitted(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec as it is stored: nulls gone, defaults filled in."""
    found: dict[str, Any] = defaulted(SPEC, _without_nulls(spec))
    return found


def defaulted(node: dict[str, Any], value: Any) -> Any:
    """A value with the defaults of a structural schema filled in."""
    if isinstance(value, list):
        return [defaulted(node.get("items", {}), one) for one in value]
    if not isinstance(value, dict):
        return value
    children = node.get("properties", {})
    defaults = {name: child["default"] for name, child in children.items() if "default" in child}
    return {name: defaulted(children.get(name, {}), one) for name, one in (defaults | value).items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: _without_nulls(one) for name, one in value.items() if one is not None}


def _path(error: ValidationError) -> str:
    steps = ("spec", *error.absolute_path)
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Any:
    """RE2's `$` is the end of the text, never the place before a last line break."""
    if isinstance(value, str) and re.search(re.sub(r"\$(?=$|[|)])", r"\\Z", pattern), value) is None:
        yield ValidationError(f"does not match {pattern}")


@cache
def _validator() -> Any:
    return extend(Draft202012Validator, {"pattern": _pattern})(SPEC)  # type: ignore[no-untyped-call]


@cache
def _rules(file: str, *, transitions: bool) -> list[tuple[str, Any]]:
    environment = cel.NewEnv(variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN})
    return [
        (one["message"], environment.compile(one["rule"]))
        for one in schema_of(file)["x-kubernetes-validations"]
        if transitions or "oldSelf" not in one["rule"]
    ]


def _holds(rule: Any, data: dict[str, Any]) -> bool:
    result = rule.eval(data=data).value()
    assert isinstance(result, bool), result  # an error of the evaluation would refuse every mapping
    return result


def _typed(node: dict[str, Any], value: Any) -> Any:
    """A value as CEL sees it: numbers of the schema's type, names escaped, what the schema does not know left out."""
    if isinstance(value, list):
        return [_typed(node.get("items", {}), one) for one in value]
    if isinstance(value, dict) and "properties" in node:
        return {
            escaped(name): _typed(node["properties"][name], one)
            for name, one in value.items()
            if name in node["properties"]
        }
    return float(value) if node.get("type") == "number" else value
