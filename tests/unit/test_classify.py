"""What each answer means (contract B.4, B.6, J.2, J.4), row by row."""

from __future__ import annotations

import orjson
import pytest

from headrace.stream.classify import (
    Failed,
    FailureKind,
    NotInvoked,
    Outcome,
    PartiallyFailed,
    Refused,
    Succeeded,
    classify,
)
from headrace.stream.functions import Fault, NoResponse, Response

IDS = ["7", "8", "9", "10"]


def judge(answer: Response | NoResponse, *, lambda_protocol: bool = True, report_failures: bool = False) -> Outcome:
    return classify(answer, IDS, lambda_protocol=lambda_protocol, report_failures=report_failures)


def ok(body: bytes, **headers: str) -> Response:
    return Response(200, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def listing(*identifiers: object) -> Response:
    return ok(orjson.dumps({"batchItemFailures": [{"itemIdentifier": one} for one in identifiers]}))


@pytest.mark.parametrize(
    "body", [b"", b"null", b"{}", b'"fine"', b"[1]", b'{"batchItemFailures":[{"itemIdentifier":"8"}]}']
)
def test_any_json_answer_is_success_while_partial_responses_are_off(body: bytes) -> None:
    assert judge(ok(body)) == Succeeded()


@pytest.mark.parametrize("value", ["Unhandled", "Handled"])
def test_the_function_error_header_fails_the_batch_whatever_the_body_says(value: str) -> None:
    answer = ok(b'{"batchItemFailures":[]}', x_amz_function_error=value, x_amz_executed_version="3")
    outcome = judge(answer, report_failures=True)
    assert outcome == Failed(FailureKind.FUNCTION_ERROR, value, 200, "3", "HTTP 200")


def test_an_unknown_value_of_the_function_error_header_counts_as_unhandled() -> None:
    outcome = judge(ok(b"", x_amz_function_error="Strange"))
    assert isinstance(outcome, Failed)
    assert outcome.function_error == "Unhandled"


RIE_ERROR = b'{"errorMessage":"boom","errorType":"ValueError","requestId":"x","stackTrace":[]}'
RIE_TIMEOUT = b"Task timed out after 3.00 seconds"


@pytest.mark.parametrize("body", [RIE_ERROR, RIE_TIMEOUT, b"<html>", b'{"a":'])
def test_the_emulator_tells_errors_by_body_alone(body: bytes) -> None:
    outcome = judge(ok(body))
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.function_error, outcome.status) == (FailureKind.FUNCTION_ERROR, "Unhandled", 200)


@pytest.mark.parametrize("body", [RIE_ERROR, RIE_TIMEOUT])
def test_plain_http_functions_may_answer_anything_with_200(body: bytes) -> None:
    assert judge(ok(body), lambda_protocol=False) == Succeeded()


@pytest.mark.parametrize(
    "body", [b'{"errorMessage":1,"errorType":"x"}', b'{"errorMessage":"only"}', b'["errorMessage"]']
)
def test_only_the_runtimes_own_error_object_is_an_error(body: bytes) -> None:
    assert judge(ok(body)) == Succeeded()


@pytest.mark.parametrize(
    ("status", "lambda_protocol", "expected"),
    [
        (429, True, NotInvoked), (429, False, NotInvoked),
        (400, True, NotInvoked), (400, False, Failed),
        (413, True, Refused), (413, False, Refused),
        (404, True, NotInvoked), (404, False, NotInvoked),
        (502, True, NotInvoked), (502, False, NotInvoked),
        (503, True, NotInvoked), (503, False, NotInvoked),
        (504, True, NotInvoked), (504, False, NotInvoked),
        (301, True, NotInvoked), (307, False, NotInvoked),
        (500, True, NotInvoked), (500, False, Failed),
        (403, True, NotInvoked), (403, False, Failed),
        (409, True, NotInvoked), (422, False, Failed), (501, False, Failed),
        (201, False, Succeeded), (202, True, Succeeded), (204, False, Succeeded),
    ],
)  # fmt: skip
def test_statuses_are_classified_as_the_contract_says(status: int, lambda_protocol: bool, expected: type) -> None:
    assert isinstance(judge(Response(status, {}, b""), lambda_protocol=lambda_protocol), expected)


def test_throttles_are_told_apart_from_an_unreachable_function() -> None:
    throttle = judge(Response(429, {"retry-after": "7"}, b""))
    away = judge(Response(503, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, b""))
    assert throttle == NotInvoked(throttled=True, detail="HTTP 429", retry_after=7.0)
    assert away == NotInvoked(throttled=False, detail="HTTP 503", retry_after=None)


def test_the_emulators_400_is_a_throttle_and_the_invoke_apis_400_a_failure() -> None:
    assert judge(Response(400, {}, b"")) == NotInvoked(throttled=True, detail="HTTP 400")
    refused = judge(Response(400, {"x-amzn-errortype": "InvalidRequestContentException"}, b"{}"))
    assert isinstance(refused, Failed)


def test_an_emulators_502_with_an_error_body_is_a_function_error() -> None:
    assert isinstance(judge(Response(502, {}, RIE_ERROR)), Failed)
    assert isinstance(judge(Response(502, {}, RIE_ERROR), lambda_protocol=False), NotInvoked)


@pytest.mark.parametrize("fault", [Fault.TIMED_OUT, Fault.DROPPED, Fault.TOO_LARGE])
def test_a_call_that_reached_the_function_and_brought_no_answer_is_a_function_error(fault: Fault) -> None:
    outcome = judge(NoResponse(fault, "why"))
    assert outcome == Failed(FailureKind.FUNCTION_ERROR, "Unhandled", 200, "$LATEST", "why")


def test_a_call_that_did_not_reach_the_function_spends_nothing() -> None:
    assert judge(NoResponse(Fault.NOT_CONNECTED, "refused")) == NotInvoked(throttled=False, detail="refused")


@pytest.mark.parametrize(
    "body",
    [b"", b'""', b"null", b"{}", b"[]", b'{"batchItemFailures":[]}', b'{"batchItemFailures":null}', b'{"x":1}', b" "],
)
def test_every_form_of_complete_success(body: bytes) -> None:
    assert judge(ok(body), report_failures=True) == Succeeded()


@pytest.mark.parametrize("identifiers", [["10"], ["10", "10"]])
def test_everything_before_the_lowest_reported_record_succeeded(identifiers: list[str]) -> None:
    assert judge(listing(*identifiers), report_failures=True) == PartiallyFailed(3)


def test_the_lowest_record_counts_by_number_not_by_text() -> None:
    assert judge(listing("10", "9"), report_failures=True) == PartiallyFailed(2)


def test_a_failure_of_the_first_record_is_no_progress() -> None:
    outcome = judge(listing("9", "7"), report_failures=True)
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.function_error) == (FailureKind.PARTIAL, None)


@pytest.mark.parametrize(
    "answer",
    [
        listing(123), listing(""), listing(None), listing("11"), listing("8", "11"), listing("8", None), listing({"a": 1}),
        ok(b'{"batchItemFailures":[{"foo":"8"}]}'), ok(b'{"batchItemFailures":[{"foo":null}]}'),
        ok(b'{"batchItemFailures":["8"]}'), ok(b'{"batchItemFailures":"8"}'), ok(b'{"batchItemFailures":{}}'),
        ok(b'"text"'), ok(b"1"), ok(b"[1]"), ok(b"true"),
    ],
)  # fmt: skip
def test_an_invalid_response_fails_the_whole_batch_with_no_function_error(answer: Response) -> None:
    outcome = judge(answer, report_failures=True)
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.function_error) == (FailureKind.INVALID_RESPONSE, None)


def test_a_plain_http_answer_that_is_not_json_is_an_invalid_partial_response() -> None:
    outcome = judge(ok(b"fine"), lambda_protocol=False, report_failures=True)
    assert isinstance(outcome, Failed)
    assert outcome.kind is FailureKind.INVALID_RESPONSE
