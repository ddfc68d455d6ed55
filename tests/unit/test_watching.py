"""What is told of kopf's end, and what it leaves behind."""

from __future__ import annotations

import logging
from collections.abc import Callable

import kopf
import pytest

from headrace.control.watching import _is_news


def record(error: Exception | None) -> logging.LogRecord:
    told = (type(error), error, error.__traceback__) if error is not None else None
    return logging.LogRecord("asyncio", logging.ERROR, "", 0, "Exception in callback", (), told)


def raised(by: Callable[[], None]) -> Exception:
    with pytest.raises(AssertionError) as caught:
        by()
    return caught.value


def request_cancel_callback() -> None:
    raise AssertionError


def another_callback() -> None:
    raise AssertionError


@pytest.mark.parametrize(
    "error",
    [kopf.LoginError("Ran out of valid credentials."), raised(request_cancel_callback)],
    ids=["refused", "cancelled"],
)
def test_a_traceback_that_kopf_leaves_when_it_ends_is_no_news(error: Exception) -> None:
    assert not _is_news(record(error))


@pytest.mark.parametrize("error", [None, AssertionError(), raised(another_callback), ValueError("x")])
def test_every_other_trouble_is_told(error: Exception | None) -> None:
    assert _is_news(record(error))
