"""What is told of kopf's end, and what it leaves behind."""

from __future__ import annotations

import logging

import kopf
import pytest

from headrace.control.watching import _is_news


def record(message: str, error: Exception | None = None) -> logging.LogRecord:
    told = (type(error), error, None) if error is not None else None
    return logging.LogRecord("asyncio", logging.ERROR, "", 0, message, (), told)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("Task exception was never retrieved", kopf.LoginError("Ran out of valid credentials.")),
        ("Exception in callback stream.<locals>.request_cancel_callback(<Task>)", AssertionError()),
    ],
    ids=["refused", "cancelled"],
)
def test_a_traceback_that_kopf_leaves_when_it_ends_is_no_news(message: str, error: Exception) -> None:
    assert not _is_news(record(message, error))


@pytest.mark.parametrize("error", [None, AssertionError(), ValueError("x")])
def test_every_other_trouble_is_told(error: Exception | None) -> None:
    assert _is_news(record("Exception in callback", error))
