"""Manifests from files and folders: what is read, passed over and told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import InvalidMapping
from headrace.manifests import check_mappings, load_mappings
from tests.support.mappings import manifest

EXAMPLES = Path(__file__).parents[2] / "examples"


def named(name: str, **properties: Any) -> dict[str, Any]:
    document = manifest(**({"function": {"url": f"http://{name}"}} | properties))
    document["metadata"]["name"] = name
    return document


def write(path: Path, *documents: Any) -> Path:
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return path


def told(*paths: Path) -> tuple[str, ...]:
    with pytest.raises(InvalidMapping) as caught:
        load_mappings(paths)
    return caught.value.errors


def keys(*paths: Path) -> list[str]:
    return [mapping.key for mapping in load_mappings(paths)]


def test_a_file_may_hold_several_documents_and_empty_ones(tmp_path: Path) -> None:
    assert keys(write(tmp_path / "a.yaml", None, named("a"), None, named("b"))) == ["shop/a", "shop/b"]


def test_a_list_of_the_kubernetes_api_is_unfolded(tmp_path: Path) -> None:
    body = {"apiVersion": "v1", "kind": "List", "items": [named("a"), named("b", batchSize=0)]}
    path = write(tmp_path / "a.yaml", body)
    assert told(path) == (f"{path}: items[1]: spec.batchSize: must be a whole number from 1 to 10000, got 0",)


def test_json_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(named("a"), indent="\t"))
    assert keys(path) == ["shop/a"]


def test_a_folder_gives_its_mappings_and_passes_over_the_rest(tmp_path: Path) -> None:
    write(tmp_path / "b.yml", named("b"), {"apiVersion": "v1", "kind": "Service"})
    write(tmp_path / "a.yaml", named("a"))
    write(tmp_path / "values.yaml", {"replicas": 1})
    write(tmp_path / "ack.yaml", {"apiVersion": "lambda.services.k8s.aws/v1alpha1", "kind": "EventSourceMapping"})
    (tmp_path / "notes.txt").write_text("{")
    assert keys(tmp_path) == ["shop/a", "shop/b"]


def test_a_file_and_its_folder_may_both_be_named_once_each(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", named("a"))
    assert keys(path, path) == ["shop/a"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.yaml", b"", "is empty"),
        ("a.yaml", b"---\n---\n", "is empty"),
        ("a.json", b" \n", "is empty"),
        ("a.yaml", b"a: 1\nb: [\n", "line 3: is not YAML: expected the node content, but found '<stream end>'"),
        ("a.yaml", b"a: 1\na: 2\n", "line 2: is not YAML: a is written twice"),
        ("a.yaml", b"a: !!python/object:os.system {}\n", "line 1: is not YAML: could not determine a constructor"),
        ("a.yaml", b"\x01", "is not YAML: unacceptable character"),
        ("a.yaml", b"\xff\xfe\x00", "is not UTF-8 text"),
        ("a.yaml", b"[" * 5000, "is nested too deeply"),
        ("a.yaml", b"a: " + b"9" * 5000, "holds a number that cannot be read"),
        ("a.yaml", b"? [a]\n: b\n", "line 1: is not YAML: found unhashable key"),
        ("a.json", b'{"a":', "line 1: is not JSON: Expecting value"),
        ("a.yaml", b"- 1\n", "the document: must be a mapping of names to values"),
        ("a.yaml", b"text\n", "the document: must be a mapping of names to values"),
        ("a.yaml", b"kind: Pod\napiVersion: v1\n", "kind: must be EventSourceMapping, got Pod"),
        (
            "a.yaml",
            b"kind: EventSourceMapping\napiVersion: headrace.dev/v1\n",
            "apiVersion: must be headrace.dev/v1alpha1, got headrace.dev/v1",
        ),
    ],
)
def test_a_file_that_holds_no_mapping_is_told_in_one_line(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    (error,) = told(path)
    assert error.startswith(f"{path}: {sentence}")
    assert "\n" not in error


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert told(path) == (f"{path}: no such file or folder",)


def test_a_folder_without_a_mapping_is_told(tmp_path: Path) -> None:
    write(tmp_path / "service.yaml", {"apiVersion": "v1", "kind": "Service"})
    assert told(tmp_path) == (f"{tmp_path}: holds no EventSourceMapping in a .yaml, .yml or .json file",)


def test_every_fault_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    first = write(tmp_path / "1.yaml", named("a", batchSize=0), named("b", enabled="x"))
    second = tmp_path / "2.yaml"
    second.write_text("[")
    third = write(tmp_path / "3.yaml", named("a"), named("c", tags={"a": "b"}))
    with pytest.raises(InvalidMapping) as caught:
        check_mappings([first, second, third])
    assert [error.partition(": must")[0] for error in caught.value.errors] == [
        f"{first}: document 1: spec.batchSize",
        f"{first}: document 2: spec.enabled",
        f"{second}: line 1: is not YAML: expected the node content, but found '<stream end>'",
        f"{third}: document 2: spec.tags: NotSupportedYet: it is not served in this version",
    ]


def test_a_broken_file_of_a_folder_does_not_hide_the_faults_of_others(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("{")
    write(tmp_path / "b.yaml", named("b", batchSize=0))
    assert [error.split(":")[0] for error in told(tmp_path)] == [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]


def test_a_name_is_used_once_in_all_files(tmp_path: Path) -> None:
    first, second = write(tmp_path / "1.yaml", named("a")), write(tmp_path / "2.yaml", named("a"))
    assert told(first, second) == (f"{second}: metadata.name: shop/a is defined twice (in {first})",)


def test_the_same_source_and_function_are_mapped_once_in_all_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", named("a"), named("b", function={"url": "http://a"}))
    (error,) = told(path)
    assert error.startswith(f'{path}: document 2: spec.eventSourceArn: The event source arn (" arn:aws:kinesis:')
    assert error.endswith(f"(in {path}: document 1)")


def test_an_unquoted_time_is_a_text_as_in_kubernetes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", named("a", startingPosition="AT_TIMESTAMP", startingPositionTimestamp="INSTANT"))
    path.write_text(path.read_text().replace("INSTANT", "2023-11-14T22:13:20Z"))
    assert load_mappings([path])[0].spec.starting_position_timestamp == 1_700_000_000


def test_a_start_in_the_future_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", named("a", startingPosition="AT_TIMESTAMP", startingPositionTimestamp=100))
    with pytest.raises(InvalidMapping, match="startingPositionTimestamp: must not be in the future"):
        check_mappings([path], clock=lambda: 99.0)
    assert [mapping.key for mapping in check_mappings([path], clock=lambda: 100.0)] == ["shop/a"]


@given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_any_file_is_read_or_told(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    assert all(error.startswith(f"{path}: ") for error in told(path))


def test_the_example_is_valid_and_served() -> None:
    assert [mapping.key for mapping in check_mappings([EXAMPLES / "mapping.yaml"])] == ["shop/orders"]
