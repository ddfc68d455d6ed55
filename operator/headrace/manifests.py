"""Manifests from files and folders, for `headrace run` and `headrace validate`.

Every fault of every file is told at once: InvalidMapping, each error as `FILE: [document N: ]SENTENCE`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from headrace.errors import InvalidMapping
from headrace.spec import API_VERSION, KIND, EventSourceMapping, parse_mapping, unsupported
from headrace.spec_checks import conflict, starts_in_future

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_GROUP = API_VERSION.partition("/")[0]


@dataclass(frozen=True, slots=True)
class _Document:
    """One object of a file; `where` begins every sentence about it."""

    where: str
    body: Any


@dataclass(slots=True)
class _Findings:
    """What was read: valid mappings and where they stand, and the faults of the others."""

    mappings: list[tuple[str, EventSourceMapping]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, document: _Document) -> None:
        try:
            mapping = _parse(document.body)
        except InvalidMapping as error:
            self.errors += [f"{document.where}: {sentence}" for sentence in error.errors]
            return
        for where, other in self.mappings:
            if (sentence := conflict(mapping, other)) is not None:
                self.errors.append(f"{document.where}: {sentence} (in {where})")
                return
        self.mappings.append((document.where, mapping))


def load_mappings(paths: Sequence[Path]) -> list[EventSourceMapping]:
    """The mappings of files and folders, in order; raises InvalidMapping.

    A folder may hold objects of other kinds, which are passed over; a file that is named must hold mappings alone.
    """
    found = _read(paths)
    if found.errors:
        raise InvalidMapping(*found.errors)
    return [mapping for _, mapping in found.mappings]


def check_mappings(paths: Sequence[Path], clock: Callable[[], float] = time.time) -> list[EventSourceMapping]:
    """Like `load_mappings`; refuses also what this version does not serve, and a start that lies in the future."""
    found = _read(paths)
    now = clock()
    for where, mapping in found.mappings:
        found.errors += [f"{where}: {sentence}" for sentence in unsupported(mapping) + starts_in_future(mapping, now)]
    if found.errors:
        raise InvalidMapping(*found.errors)
    return [mapping for _, mapping in found.mappings]


def _read(paths: Sequence[Path]) -> _Findings:
    found = _Findings()
    for path in dict.fromkeys(paths):
        try:
            documents = _in_folder(path, found.errors) if path.is_dir() else _in_file(path)
        except InvalidMapping as error:
            found.errors += error.errors
            continue
        for document in documents:
            found.add(document)
    return found


def _in_folder(folder: Path, errors: list[str]) -> list[_Document]:
    """The mappings in the files of a folder; a file that cannot be read does not hide the others."""
    documents: list[_Document] = []
    before = len(errors)
    for path in sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file()):
        try:
            documents += [one for one in _documents(path) if _is_ours(one.body)]
        except InvalidMapping as error:
            errors += error.errors
    if not documents and len(errors) == before:
        raise InvalidMapping(f"{folder}: holds no {KIND} in a .yaml, .yml or .json file")
    return documents


def _in_file(path: Path) -> list[_Document]:
    documents = list(_documents(path))
    if not documents:
        raise InvalidMapping(f"{path}: is empty")
    return documents


def _is_ours(body: Any) -> bool:
    """Whether an object in a folder is meant to be a mapping; its API version is checked later."""
    if not isinstance(body, dict) or body.get("kind") != KIND:
        return False
    return str(body.get("apiVersion", _GROUP)).partition("/")[0] == _GROUP


def _parse(body: Any) -> EventSourceMapping:
    if isinstance(body, dict):
        for name, wanted in (("kind", KIND), ("apiVersion", API_VERSION)):
            told = body.get(name)
            # Of another kind's object nothing else can be right: one sentence tells it all.
            if isinstance(told, str) and told != wanted:
                raise InvalidMapping(f"{name}: must be {wanted}, got {told[:100]}")
    return parse_mapping(body)


def _documents(path: Path) -> Iterator[_Document]:
    """The objects of a file, lists of the Kubernetes API unfolded, empty documents passed over."""
    bodies = [(number, body) for number, body in enumerate(_load(path), start=1) if body is not None]
    for number, body in bodies:
        where = str(path) if len(bodies) == 1 else f"{path}: document {number}"
        yield from _unfolded(where, body)


def _unfolded(where: str, body: Any) -> Iterator[_Document]:
    items = body.get("items") if isinstance(body, dict) and str(body.get("kind", "")).endswith("List") else None
    if isinstance(items, list):
        for index, item in enumerate(items):
            yield _Document(f"{where}: items[{index}]", item)
    else:
        yield _Document(where, body)


def _load(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InvalidMapping(f"{path}: no such file or folder") from None
    except OSError as error:
        raise InvalidMapping(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidMapping(f"{path}: is not UTF-8 text") from None
    try:
        return _from_json(text) if path.suffix == ".json" else _from_yaml(text)
    except InvalidMapping as error:
        raise InvalidMapping(*(f"{path}: {sentence}" for sentence in error.errors)) from None
    except RecursionError:
        raise InvalidMapping(f"{path}: is nested too deeply") from None


def _from_json(text: str) -> list[Any]:
    try:
        return [json.loads(text)] if text.strip() else []
    except json.JSONDecodeError as error:
        raise InvalidMapping(f"line {error.lineno}: is not JSON: {error.msg}") from None
    except ValueError:
        raise InvalidMapping("holds a number that cannot be read") from None


def _from_yaml(text: str) -> list[Any]:
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark is not None else ""
        raise InvalidMapping(f"{line}is not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise InvalidMapping(f"is not YAML: {_first_line(error)}") from None
    except (ValueError, OverflowError):
        raise InvalidMapping("holds a number that cannot be read") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "it cannot be read")


class _Loader(yaml.SafeLoader):
    """YAML as the Kubernetes tools read it: times stay texts; a property written twice is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} is written twice", key.start_mark)
                seen.add(key.value)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
