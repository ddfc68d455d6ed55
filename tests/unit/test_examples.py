"""The sample functions: both answer alike, so that either can be started from."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.support.examples import EXAMPLES, load
from tests.support.pod_security import refusals

Handle = Callable[[dict[str, Any]], dict[str, Any]]

http_function = load("function-http/function.py")
lambda_function = load("function-lambda-image/handler.py")
dynamodb_function = load("dynamodb-stream/handler.py")
queue_function = load("sqs-queue/handler.py")


def event(*data: str) -> dict[str, Any]:
    """Record number n holds the n-th text."""
    return {
        "Records": [
            {
                "eventID": f"shardId-000000000000:{number}",
                "kinesis": {"sequenceNumber": str(number), "data": base64.b64encode(text.encode()).decode()},
            }
            for number, text in enumerate(data, 1)
        ]
    }


@pytest.fixture(params=["http", "lambda"])
def handle(request: pytest.FixtureRequest) -> Handle:
    handles: dict[str, Handle] = {
        "http": http_function.handle,
        "lambda": lambda event: lambda_function.handler(event, None),
    }
    return handles[request.param]


def test_good_records_are_acknowledged_as_a_whole(handle: Handle) -> None:
    assert handle(event('{"order": 1}', "{}")) == {"batchItemFailures": []}


@pytest.mark.parametrize(
    "poison", ["no JSON", "[]", "1", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1")]
)
def test_a_record_that_is_no_json_object_is_reported_and_the_rest_is_left_for_later(
    handle: Handle, poison: str
) -> None:
    assert handle(event("{}", poison, "also no JSON")) == {"batchItemFailures": [{"itemIdentifier": "2"}]}


def test_a_request_is_answered_from_memory_once_it_succeeded_and_is_tried_again_until_then() -> None:
    ledger = http_function.Ledger()
    failed: dict[str, Any] = {"batchItemFailures": [{"itemIdentifier": "1"}]}
    succeeded: dict[str, Any] = {"batchItemFailures": []}

    ledger.answered("one", failed)
    assert ledger.answered_before("one") is None
    ledger.answered("one", succeeded)
    assert ledger.answered_before("one") == succeeded
    assert ledger.answered_before("another") is None


def test_the_ledger_forgets_what_is_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_function, "REMEMBERED", 2)
    ledger = http_function.Ledger()

    for request_id in ("one", "two", "three"):
        ledger.answered(request_id, {"batchItemFailures": []})

    assert ledger.answered_before("one") is None
    assert ledger.answered_before("three") is not None


@pytest.mark.parametrize("example", ["function-http", "function-lambda-image"])
def test_the_manifest_runs_a_restricted_pod_behind_the_service_that_the_mapping_names(example: str) -> None:
    deployment, service = yaml.safe_load_all((EXAMPLES / example / "function.yaml").read_text())
    mapping = yaml.safe_load((EXAMPLES / example / "mapping.yaml").read_text())
    pod, named = deployment["spec"]["template"], mapping["spec"]["function"]["service"]

    assert refusals(pod["spec"]) == []
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert (service["metadata"]["name"], service["spec"]["ports"][0]["port"]) == (named["name"], named["port"])


def test_the_changes_of_a_table_are_taken_up_to_the_first_that_fails() -> None:
    def change(number: int, **attributes: Any) -> dict[str, Any]:
        return {"eventName": "MODIFY", "dynamodb": {"SequenceNumber": str(number), "NewImage": attributes}}

    good, bad = change(1, status={"S": "paid"}), change(2, total={"N": "1"})
    assert dynamodb_function.handle({"Records": [good]}) == {"batchItemFailures": []}
    failed = {"batchItemFailures": [{"itemIdentifier": "2"}]}
    assert dynamodb_function.handle({"Records": [good, bad, good]}) == failed


def test_attribute_values_become_pythons_own() -> None:
    written = {"s": {"S": "a"}, "n": {"N": "1.50"}, "b": {"B": "AP8="}, "none": {"NULL": True}, "yes": {"BOOL": True},
               "l": {"L": [{"N": "1"}, {"M": {"x": {"S": ""}}}]}, "ns": {"NS": ["1"]}, "bs": {"BS": ["AQ=="]}}  # fmt: skip
    assert dynamodb_function.plain(written) == {
        "s": "a", "n": "1.50", "b": b"\x00\xff", "none": None, "yes": True, "l": ["1", {"x": ""}], "ns": ["1"],
        "bs": [b"\x01"],
    }  # fmt: skip


def test_the_messages_of_a_queue_that_fail_are_named_each_by_itself() -> None:
    bodies = {"m1": '{"status": "paid"}', "m2": "no JSON", "m3": "{}", "m4": '{"status": "open"}'}
    answer = queue_function.handle({"Records": [{"messageId": one, "body": body} for one, body in bodies.items()]})
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m2"}, {"itemIdentifier": "m3"}]}
