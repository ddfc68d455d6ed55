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
    assert throttle == NotInvoked(throttled=True, detail="HTTP 429", retry_after=7.0, status=429)
    assert away == NotInvoked(throttled=False, detail="HTTP 503", status=503)


def test_the_emulators_400_is_a_throttle_and_the_invoke_apis_400_a_failure() -> None:
    assert judge(Response(400, {}, b"")) == NotInvoked(throttled=True, detail="HTTP 400", status=400)
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
    assert judge(listing(*identifiers), report_failures=True) == PartiallyFailed(3, failures=frozenset(identifiers))


def test_the_lowest_record_counts_by_number_not_by_text() -> None:
    assert judge(listing("10", "9"), report_failures=True) == PartiallyFailed(2, failures=frozenset({"10", "9"}))


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


# ---- what a failure record and the log tell of a failure (contract C.1)


@pytest.mark.parametrize("failing", [{"x-amz-function-error": "Unhandled"}, {}], ids=["an error", "a partial response"])
def test_a_failure_tells_status_and_version_of_the_answer(failing: dict[str, str]) -> None:
    body = b'{"batchItemFailures":[{"itemIdentifier":"7"}]}'
    for versions, told in (({"x-amz-executed-version": "Blue-3"}, "Blue-3"), ({}, "$LATEST")):
        outcome = judge(Response(202, failing | versions, body), report_failures=True)
        assert isinstance(outcome, Failed)
        assert (outcome.status, outcome.executed_version) == (202, told)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (RIE_ERROR, "ValueError: boom"),
        (RIE_TIMEOUT, "HTTP 200"),
        (orjson.dumps({"errorMessage": "x" * 600, "errorType": "T"}), "T: " + "x" * 497),
    ],
)
def test_a_functions_error_is_told_in_one_line_of_bounded_length(body: bytes, detail: str) -> None:
    outcome = judge(ok(body))
    assert isinstance(outcome, Failed)
    assert outcome.detail == detail


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"fine", "the body is not JSON"),
        (b"[1]", "the body is not an object"),
        (b'{"batchItemFailures":{"itemIdentifier":"8"}}', "batchItemFailures is not a list"),
        (
            b'{"batchItemFailures":[{"itemIdentifier":"11"}]}',
            "an itemIdentifier is not that of a record of this batch",
        ),
        (b'{"batchItemFailures":[{"itemIdentifier":"7"}]}', "the first record was reported as failed"),
    ],
)
def test_a_response_that_fails_the_batch_is_told_with_what_is_wrong(body: bytes, detail: str) -> None:
    outcome = judge(ok(body), lambda_protocol=False, report_failures=True)
    assert isinstance(outcome, Failed)
    assert outcome.detail == detail


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("120", 120.0), ("", None), ("-1", None), ("1.5", None), ("٣", None), ("²", None)],
)
def test_retry_after_counts_in_whole_seconds_whatever_the_status(value: str, seconds: float | None) -> None:
    for status in (429, 503, 500):
        outcome = judge(Response(status, {"retry-after": value}, b""))
        assert isinstance(outcome, NotInvoked)
        assert (outcome.retry_after, outcome.detail) == (seconds, f"HTTP {status}")


@pytest.mark.parametrize("status", [199, 300, 399])
def test_what_is_neither_an_answer_nor_an_error_did_not_come_from_the_function(status: int) -> None:
    for body in (b"", b"{}"):
        outcome = judge(Response(status, {}, body), lambda_protocol=True)
        assert outcome == NotInvoked(throttled=False, detail=f"HTTP {status}", status=status)


@pytest.mark.parametrize(("status", "expected"), [(199, Failed), (300, NotInvoked), (399, NotInvoked)])
def test_a_redirect_is_a_wrong_address_and_no_answer_of_a_plain_function(status: int, expected: type) -> None:
    assert isinstance(judge(Response(status, {}, b"{}"), lambda_protocol=False), expected)
    assert isinstance(judge(Response(status, {}, b"{}")), NotInvoked)


@pytest.mark.parametrize("status", [200, 299])
def test_an_answer_is_a_status_from_200_to_299(status: int) -> None:
    assert judge(Response(status, {}, b"{}"), lambda_protocol=False) == Succeeded()


def test_a_plain_functions_own_error_statuses_are_function_errors() -> None:
    outcome = judge(Response(500, {}, RIE_ERROR), lambda_protocol=False)
    assert outcome == Failed(FailureKind.FUNCTION_ERROR, "Unhandled", 500, "$LATEST", "ValueError: boom")


def test_an_emulators_error_with_502_keeps_its_status() -> None:
    outcome = judge(Response(502, {}, RIE_ERROR))
    assert outcome == Failed(FailureKind.FUNCTION_ERROR, "Unhandled", 502, "$LATEST", "ValueError: boom")
    assert isinstance(judge(Response(503, {}, RIE_ERROR)), NotInvoked)


# ---- tumbling windows (contract B.7)


def aggregate(body: bytes, *, report_failures: bool = False) -> Outcome:
    return classify(ok(body), IDS, lambda_protocol=False, report_failures=report_failures, wants_state=True)


@pytest.mark.parametrize("report_failures", [False, True])
def test_a_windows_state_is_kept_as_it_was_given_back(report_failures: bool) -> None:
    outcome = aggregate(b'{ "state": {"sum": 1.50, "a": []} }', report_failures=report_failures)
    assert isinstance(outcome, Succeeded)
    assert orjson.loads(outcome.state or b"null") == {"sum": 1.5, "a": []}


def test_a_partial_success_keeps_the_state_of_what_succeeded() -> None:
    body = b'{"state":{"n":1},"batchItemFailures":[{"itemIdentifier":"9"}]}'
    assert aggregate(body, report_failures=True) == PartiallyFailed(2, b'{"n":1}', frozenset({"9"}))
    assert aggregate(body) == Succeeded(b'{"n":1}')


def test_a_state_does_not_make_a_failure_a_success() -> None:
    outcome = aggregate(b'{"state":{"n":1},"batchItemFailures":[{"itemIdentifier":"7"}]}', report_failures=True)
    assert isinstance(outcome, Failed)
    assert outcome.kind is FailureKind.PARTIAL


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"state":null}', b'{"state":[]}', b'{"state":"{}"}', b'[{"state":{}}]', b"fine"]
)
def test_an_answer_without_an_object_as_state_fails_the_batch(body: bytes) -> None:
    outcome = aggregate(body)
    detail = "the answer has no object named state"
    assert outcome == Failed(FailureKind.MISSING_STATE, None, 200, "$LATEST", detail)


def test_only_a_window_asks_for_a_state() -> None:
    assert judge(ok(b'{"state":{"n":1}}')) == Succeeded()
