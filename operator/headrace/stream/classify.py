"""What an answer means (contract B.4, B.6, J.4). Pure.

Before this: `functions/`, which brought the answer. After this: `retry.py`, which decides what follows from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson

from headrace.stream.functions import Fault, NoResponse, Response

if TYPE_CHECKING:
    from collections.abc import Sequence

THROTTLED_STATUS = 429
REFUSED_STATUS = 413
_NOT_INVOKED = frozenset({404, 502, 503, 504})
"""Statuses of what stands before the function: it did not run (contract J.4)."""


class FailureKind(StrEnum):
    """Why a call that reached the function failed."""

    FUNCTION_ERROR = "FunctionError"
    """It raised, answered with an error, ran out of time or died."""
    PARTIAL = "Partial"
    """It reported its first record as failed: no progress, though a valid answer."""
    INVALID_RESPONSE = "InvalidResponse"
    """Its batchItemFailures name what was not in the batch, or nothing at all."""
    MISSING_STATE = "MissingState"
    """It gave back no state for its tumbling window."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The whole batch is acknowledged; `state` is the tumbling window's, as JSON, where there is one (B.7)."""

    state: bytes | None = None


@dataclass(frozen=True, slots=True)
class PartiallyFailed:
    """Everything before the record at index `first` (> 0) is acknowledged; `state` is what came of it.

    `failures` are the identifiers that the function named: of a queue just those have failed (F.2).
    """

    first: int
    state: bytes | None = None
    failures: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Failed:
    """The function failed on the batch: spends a retry, splits. The fields are those of `responseContext` (C.1)."""

    kind: FailureKind
    function_error: str | None
    status: int = 200
    executed_version: str = "$LATEST"
    detail: str = ""
    failures: frozenset[str] = frozenset()
    """Of a partial failure: the identifiers that the function named."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The event was too large to be taken: spends a retry, never splits.

    One that was not `sent`, because it is over the limit, is halved if it can be: a window's state has grown since the
    batch was formed.
    """

    sent: bool = True


@dataclass(frozen=True, slots=True)
class NotInvoked:
    """The function did not run: throttled or out of reach. Spends nothing.

    `retry_after` is the pause in seconds that the other side asked for, `status` the HTTP status it answered with.
    """

    throttled: bool
    detail: str
    retry_after: float | None = None
    status: int | None = None


Outcome = Succeeded | PartiallyFailed | Failed | Refused | NotInvoked


def classify(
    answer: Response | NoResponse,
    sequence_numbers: Sequence[str],
    *,
    lambda_protocol: bool,
    report_failures: bool,
    wants_state: bool = False,
) -> Outcome:
    """The outcome of a call with the records of these sequence numbers.

    `report_failures` says that `functionResponseTypes` holds ReportBatchItemFailures; `lambda_protocol` that the
    function speaks the Invoke API or the Runtime Interface Emulator's dialect of it (J.1, J.2); `wants_state` that the
    call is one of a tumbling window, and not its last (B.7).
    """
    if isinstance(answer, NoResponse):
        return _without_response(answer)
    early = _by_status(answer, lambda_protocol=lambda_protocol)
    if early is not None:
        return early
    if "x-amz-function-error" in answer.headers:
        handled = answer.headers["x-amz-function-error"] == "Handled"
        return _function_error(answer, "Handled" if handled else "Unhandled")
    body, parsed = _parse(answer.body)
    if lambda_protocol and (not parsed or _is_runtime_error(body)):
        return _function_error(answer, "Unhandled")
    state = _state(body) if wants_state else None
    if wants_state and state is None:
        return _failed_response(answer, FailureKind.MISSING_STATE, "the answer has no object named state")
    if not report_failures:
        return Succeeded(state)
    if not parsed:
        return _invalid(answer, "the body is not JSON")
    return _with_state(_partial(answer, body, sequence_numbers), state)


def _state(body: object) -> bytes | None:
    """The window state of an answer; None without one, or with one too deeply nested to be sent back."""
    if not isinstance(body, dict) or not isinstance(body.get("state"), dict):
        return None
    try:
        return orjson.dumps(body["state"])
    except orjson.JSONEncodeError:
        return None


def _with_state(outcome: Outcome, state: bytes | None) -> Outcome:
    return replace(outcome, state=state) if isinstance(outcome, Succeeded | PartiallyFailed) else outcome


def _without_response(answer: NoResponse) -> Outcome:
    match answer.fault:
        case Fault.NOT_CONNECTED:
            return NotInvoked(throttled=False, detail=answer.detail)
        case Fault.TIMED_OUT | Fault.DROPPED | Fault.TOO_LARGE:
            return Failed(FailureKind.FUNCTION_ERROR, "Unhandled", detail=answer.detail)


def _by_status(answer: Response, *, lambda_protocol: bool) -> Outcome | None:
    """What the status alone decides; None for an answer of the function itself."""
    status = answer.status
    detail = f"HTTP {status}"
    if status == THROTTLED_STATUS or (lambda_protocol and _is_busy_emulator(answer)):
        return NotInvoked(throttled=True, detail=detail, retry_after=_retry_after(answer), status=status)
    if status == REFUSED_STATUS:
        return Refused()
    if status in _NOT_INVOKED or 300 <= status < 400:  # noqa: PLR2004 - a redirect is a wrong address, not an answer
        if lambda_protocol and status == 502 and _is_runtime_error(_parse(answer.body)[0]):  # noqa: PLR2004
            return _function_error(answer, "Unhandled")
        return NotInvoked(throttled=False, detail=detail, retry_after=_retry_after(answer), status=status)
    if 200 <= status < 300:  # noqa: PLR2004
        return None
    if lambda_protocol and status != 400:  # noqa: PLR2004 - J.1: all others are the service's, not the function's
        return NotInvoked(throttled=False, detail=detail, retry_after=_retry_after(answer), status=status)
    return _function_error(answer, "Unhandled")


def _is_busy_emulator(answer: Response) -> bool:
    """The Runtime Interface Emulator's 400 for a second call at a time; AWS's own 400 names its error type (J.2)."""
    return answer.status == 400 and "x-amzn-errortype" not in answer.headers  # noqa: PLR2004


def _retry_after(answer: Response) -> float | None:
    """Retry-After in whole seconds; its date form is not worth trusting another clock."""
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else None


def _function_error(answer: Response, error: str) -> Failed:
    return Failed(
        FailureKind.FUNCTION_ERROR,
        error,
        status=answer.status,
        executed_version=_version(answer),
        detail=_describe(answer),
    )


def _version(answer: Response) -> str:
    """The version that answered; what is none of Lambda's (a number, $LATEST) is not told on."""
    version = answer.headers.get("x-amz-executed-version", "")
    return version if re.fullmatch(r"[$A-Za-z0-9_.-]{1,128}", version) else "$LATEST"


def _describe(answer: Response) -> str:
    """One line for people: the error's type and message where the body tells them."""
    body, _ = _parse(answer.body)
    if _is_runtime_error(body):
        return f"{body['errorType']}: {body['errorMessage']}"[:500]
    return f"HTTP {answer.status}"


def _parse(body: bytes) -> tuple[Any, bool]:
    """The body's JSON value and whether it is JSON; an empty body counts as null (contract B.6)."""
    if not body.strip():
        return None, True
    try:
        return orjson.loads(body), True
    except orjson.JSONDecodeError:
        return None, False


def _is_runtime_error(body: object) -> bool:
    """The error object that Lambda's runtimes answer with (J.2)."""
    return (
        isinstance(body, dict) and isinstance(body.get("errorMessage"), str) and isinstance(body.get("errorType"), str)
    )


def _partial(answer: Response, body: object, sequence_numbers: Sequence[str]) -> Outcome:
    """ReportBatchItemFailures: everything from the lowest reported record on has failed (B.6)."""
    if body is None or body in ("", [], {}):
        return Succeeded()
    if not isinstance(body, dict):
        return _invalid(answer, "the body is not an object")
    failures = body.get("batchItemFailures")
    if failures is None or failures == []:
        return Succeeded()
    if not isinstance(failures, list):
        return _invalid(answer, "batchItemFailures is not a list")
    index_of = {number: index for index, number in enumerate(sequence_numbers)}
    named: set[str] = set()
    for failure in failures:
        identifier = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        if not isinstance(identifier, str) or identifier not in index_of:
            return _invalid(answer, "an itemIdentifier is not that of a record of this batch")
        named.add(identifier)
    first = min(index_of[identifier] for identifier in named)
    if first == 0:
        failed = _failed_response(answer, FailureKind.PARTIAL, "the first record was reported as failed")
        return replace(failed, failures=frozenset(named))
    return PartiallyFailed(first, failures=frozenset(named))


def _invalid(answer: Response, detail: str) -> Failed:
    return _failed_response(answer, FailureKind.INVALID_RESPONSE, detail)


def _failed_response(answer: Response, kind: FailureKind, detail: str) -> Failed:
    """A failure that the response tells, not an error: `functionError` is null (C.1)."""
    return Failed(kind, None, status=answer.status, executed_version=_version(answer), detail=detail)
