"""What is written, and what must not be."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from headrace import logs
from headrace.errors import Reason, SourceError
from headrace.stream.classify import Succeeded
from headrace.stream.events import (
    CallEnded,
    ConditionObserved,
    ConditionType,
    Faulted,
    RecordsFiltered,
    ShardFinished,
    ShardStopped,
)
from tests.support.records import records


@pytest.fixture(autouse=True)
def _as_it_was() -> object:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], level = before
    root.setLevel(level)


def fault() -> Exception:
    secret = "AKIA-very-secret"
    try:
        [][len(secret)]
    except IndexError as error:
        return error
    pytest.fail("unreachable")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_tells_no_local_variables(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(form)
    logs.observer("shop/orders")(Faulted("the mapping", fault(), 1.0))
    logging.getLogger("kopf").error("the library too", exc_info=fault())
    written = capsys.readouterr().err
    assert written.count("IndexError") >= 2
    assert "AKIA" not in written


def test_with_json_every_line_is_json_the_libraries_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    logs.observer("shop/orders")(Faulted("the mapping", fault(), 1.0))
    logging.getLogger("kopf").warning("a library says %s", "something")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["error", "warning"]
    assert lines[1]["event"] == "a library says something"


def test_what_can_be_expected_is_a_sentence_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    logs.observer("shop/orders")(
        Faulted("checkpoints", SourceError(Reason.UNREACHABLE, "away; it is tried again"), 1.0)
    )
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert line["error"] == "away; it is tried again"
    assert "exception" not in line


def test_a_condition_is_told_when_it_fails_and_once_when_it_holds_again(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    observe = logs.observer("shop/orders")
    for holds in (True, True, False, False, True, True):
        reason = Reason.REACHABLE if holds else Reason.NOT_FOUND
        observe(ConditionObserved(ConditionType.SOURCE_REACHABLE, holds, reason, ""))
    told = [json.loads(line)["level"] for line in capsys.readouterr().err.splitlines()]
    assert told == ["info", "warning", "warning", "info"]


def test_what_goes_well_says_nothing_of_what_fails_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Another shard, or another kind of request about a queue."""
    logs.configure("json")
    observe = logs.observer("shop/orders")
    for holds, of in ((True, None), (True, "a"), (False, "b"), (True, "a"), (True, None), (False, "b"), (True, "b")):
        reason = Reason.REACHABLE if holds else Reason.NOT_FOUND
        observe(ConditionObserved(ConditionType.SOURCE_REACHABLE, holds, reason, "", of))
    told = [json.loads(line)["level"] for line in capsys.readouterr().err.splitlines()]
    assert told == ["info", "warning", "warning", "info"]


@pytest.mark.parametrize(("event", "told"), [(ShardFinished("a"), 2), (ShardStopped("a"), 2), (ShardFinished("b"), 1)])
def test_of_a_shard_that_is_read_no_more_nothing_is_kept(
    event: ShardFinished | ShardStopped, told: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shards rotate for as long as the process lives; of one that comes back all is news."""
    logs.configure("json")
    observe = logs.observer("shop/orders")
    holds = ConditionObserved(
        ConditionType.SOURCE_REACHABLE, holds=True, reason=Reason.REACHABLE, message="", shard_id="a"
    )
    for each in (holds, holds, event, holds):
        observe(each)
    assert capsys.readouterr().err.count("condition holds") == told


def test_messages_that_a_filter_cannot_read_are_told_once_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("headrace.logs.time.monotonic", lambda: now)
    logs.configure("json")
    observe = logs.observer("shop/orders")
    for moment, unread in ((0.0, ()), (1.0, ("a",)), (2.0, ("b", "c")), (61.1, ("d",)), (200.0, ())):
        now = 100.0 + moment
        observe(RecordsFiltered("orders", 5, unread))
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["messages"], line["last"]) for line in told] == [(1, "a"), (3, "d")]


def test_an_acknowledged_batch_is_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    logs.observer("shop/orders")(CallEnded("shard", records(1), 1, "id", Succeeded(), 0.1))
    assert capsys.readouterr().err == ""
