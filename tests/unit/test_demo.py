"""The demo's pure parts: the account, the board, the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headrace.demo.account import settle
from headrace.demo.board import Board, Tone
from headrace.demo.isolation import emulator_environment, isolated
from headrace.demo.orders import POISON, Plan, order
from headrace.demo.summary import counted, verdict
from headrace.errors import Reason
from headrace.stream.classify import Failed, FailureKind, NotInvoked, Outcome, Succeeded
from headrace.stream.events import (
    CallEnded,
    CallStarted,
    ConditionObserved,
    ConditionType,
    DiscardDelivered,
    Event,
    Faulted,
    RecordsDropped,
    RecordsPolled,
    ShardStarted,
    Waiting,
)
from headrace.stream.metrics import Counts
from headrace.stream.retry import Condition, Discard
from tests.support.records import records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.records import Batch

SHARD, OTHER = "shardId-000000000000", "shardId-000000000001"
FAILED = Failed(FailureKind.FUNCTION_ERROR, "Unhandled", detail="ValueError: boom")
THROTTLED = NotInvoked(throttled=True, detail="HTTP 429")


HOSTILE = {
    "PATH": "/bin",
    "AWS_PROFILE": "nobody",
    "AWS_ENDPOINT_URL_KINESIS": "http://192.0.2.1",
    "http_proxy": "http://192.0.2.1:3128",
    "HTTPS_PROXY": "http://192.0.2.1:3128",
}


def names(*numbers: int, shard: str = SHARD) -> list[str]:
    return [f"{shard}:{number:03}" for number in numbers]


def failure(first: int, last: int, shard: str = SHARD, size: int | None = None) -> dict[str, Any]:
    info = {"shardId": shard, "startSequenceNumber": f"{first:03}", "endSequenceNumber": f"{last:03}"}
    return {"KinesisBatchInfo": {**info, "batchSize": last - first + 1 if size is None else size}}


class TestAccount:
    def test_adds_up_when_every_record_is_in_exactly_one_place(self) -> None:
        account = settle(names(1, 2, 3, 10), names(1, 10), [failure(2, 3)])
        assert account.adds_up
        assert (account.written, account.acknowledged, account.discarded) == (4, 2, 2)

    def test_a_record_in_neither_place_is_missing(self) -> None:
        account = settle(names(1, 2), names(1), [])
        assert account.missing == 1
        assert not account.adds_up

    def test_counts_that_agree_by_chance_do_not_hide_a_lost_record(self) -> None:
        account = settle(names(1, 2), names(1), [failure(1, 1)])
        assert account.written == account.acknowledged + account.discarded
        assert not account.adds_up
        assert (account.missing, account.twice) == (1, 1)

    def test_a_failure_record_covers_its_own_shard_alone(self) -> None:
        account = settle([*names(1), *names(1, shard=OTHER)], names(1), [failure(1, 1)])
        assert account.missing == 1

    def test_sequence_numbers_compare_as_numbers(self) -> None:
        account = settle(["shardId-000000000000:9", "shardId-000000000000:10"], [], [failure(9, 10)])
        assert account.adds_up

    def test_a_batch_size_that_does_not_fit_its_range_does_not_add_up(self) -> None:
        assert not settle(names(1, 2), [], [failure(1, 2, size=5)]).adds_up

    def test_a_repeated_record_counts_once(self) -> None:
        account = settle(names(1), names(1, 1), [])
        assert account.adds_up
        assert account.repeated == 1


class TestSummary:
    def test_says_what_adds_up_to_what(self) -> None:
        account = settle(names(1, 2, 3), names(1), [failure(2, 3)])
        assert verdict(account) == "It adds up: 3 = 1 + 2."
        assert "     2  in 1 failure record, says the queue q" in counted(account, 0, 1, "q", Counts())

    def test_says_how_many_are_missing(self) -> None:
        assert "1 missing" in verdict(settle(names(1), [], []))


@pytest.mark.parametrize("seconds", [3, 20, 600])
def test_every_plan_has_its_poison_before_the_busy_time_and_both_before_the_end(seconds: int) -> None:
    plan = Plan.over(seconds)
    assert 1 < plan.poison < plan.busy < plan.total
    poisons = [number for number in range(1, plan.total + 1) if order(number, plan)["amount"] == POISON]
    assert poisons == [plan.poison]


class TestIsolation:
    def test_nothing_of_the_machines_aws_settings_and_proxies_stays(self) -> None:
        environment = isolated(HOSTILE)
        assert environment["PATH"] == "/bin"
        assert not any("192.0.2.1" in value for value in environment.values())
        assert "AWS_PROFILE" not in environment
        assert environment["AWS_CONFIG_FILE"] == "/dev/null"

    def test_the_emulator_gets_one_address_and_one_folder(self) -> None:
        environment = emulator_environment({**HOSTILE, "PYTHONPATH": "x", "GATEWAY_PORT": "1"}, "/tmp/f", 4711)  # noqa: S108
        assert environment["GATEWAY_PORT"] == "4711"
        assert environment["BIND_HOST"] == "127.0.0.1"
        assert environment["TMPDIR"] == "/tmp/f"  # noqa: S108
        assert not {"AWS_PROFILE", "http_proxy", "PYTHONPATH"} & environment.keys()


class TestBoard:
    BATCH = records(1, 2, 3)

    def told(self, board: Board, events: Sequence[Event]) -> list[str]:
        return [line.text for event in events for line in board.take(event)]

    def ended(self, outcome: Outcome, attempt: int = 1, shard: str = SHARD, batch: Batch = BATCH) -> CallEnded:
        return CallEnded(shard, batch, attempt, "id", outcome, 0.02)

    def discard(self) -> Discard:
        return Discard(self.BATCH, Condition.RETRY_ATTEMPTS_EXHAUSTED, 3, FAILED, self.BATCH, 0.0)

    def test_a_shards_first_batch_is_worth_a_line_and_the_next_is_not(self) -> None:
        board = Board(3, "failed")
        told = self.told(board, [self.ended(Succeeded()), self.ended(Succeeded())])
        assert told == ["shard 0: acknowledged its first batch (3 records, 20 ms)"]
        assert board.rows[SHARD].acknowledged == 6

    def test_a_poison_batch_is_told_attempt_by_attempt_up_to_its_failure_record(self) -> None:
        board = Board(3, "failed")
        told = self.told(
            board,
            [
                self.ended(FAILED),
                Waiting(SHARD, self.BATCH, 0.7, 1),
                self.ended(Succeeded(), shard=OTHER),
                self.ended(FAILED, 2),
                Waiting(SHARD, self.BATCH, 1.4, 2),
                self.ended(FAILED, 3),
                DiscardDelivered(SHARD, self.discard(), "id"),
            ],
        )
        assert told == [
            "shard 0: fails on 3 records, attempt 1 of 3: ValueError: boom",
            "shard 0: retry 1 of 2 in 0.7 s; what is behind waits, to keep the order",
            "shard 1: acknowledged its first batch (3 records, 20 ms)",
            "shard 0: fails on 3 records, attempt 2 of 3: ValueError: boom",
            "shard 0: retry 2 of 2 in 1.4 s",
            "shard 0: fails on 3 records, attempt 3 of 3: ValueError: boom",
            "shard 0: gives up after attempt 3: the failure record of 3 records is in failed",
            "meanwhile the other shard acknowledged 3 records",
        ]
        assert board.decided == 6

    def test_a_throttle_is_told_once_and_again_when_it_has_passed(self) -> None:
        board = Board(3, "failed")
        throttled: list[Event] = [self.ended(THROTTLED), Waiting(SHARD, self.BATCH, 0.5, 0)]
        told = self.told(board, [*throttled, *throttled, self.ended(Succeeded())])
        assert told == [
            "shard 0: throttled (HTTP 429); 3 records wait",
            "shard 0: acknowledged the batch that was throttled 2 times; no retry was spent (3 records, 20 ms)",
        ]

    def test_the_state_says_what_a_shard_is_doing(self) -> None:
        board = Board(3, "failed")
        board.take(ShardStarted(SHARD, None))
        row = board.rows[SHARD]
        board.take(RecordsPolled(SHARD, 3, 0.0))
        assert (row.state, row.read) == ("reading", 3)
        board.take(CallStarted(SHARD, self.BATCH, 1, "id", 0.1))
        assert row.state == "sends 3 records"
        board.take(self.ended(FAILED))
        board.take(Waiting(SHARD, self.BATCH, 0.7, 1))
        assert (row.state, row.tone) == ("retry 1 of 2 next", Tone.WARNING)
        board.take(CallStarted(SHARD, self.BATCH, 2, "id", 0.1))
        assert row.state == "attempt 2 of 3"
        assert row.calls == 2

    def test_a_loss_is_told_as_bad(self) -> None:
        (line,) = Board(3, "failed").take(RecordsDropped(SHARD, self.discard(), delivery_failed=True))
        assert line.tone is Tone.BAD
        assert line.text == "shard 0: lost 3 records"

    def test_a_condition_is_told_when_it_changes(self) -> None:
        board = Board(3, "failed")
        bad = ConditionObserved(ConditionType.SOURCE_REACHABLE, False, Reason.UNREACHABLE, "gone")
        good = ConditionObserved(ConditionType.SOURCE_REACHABLE, True, Reason.REACHABLE, "back")
        told = self.told(board, [good, bad, bad, good])
        assert told == ["SourceReachable: False, gone", "SourceReachable: True, back"]

    def test_a_fault_is_told_without_its_text(self) -> None:
        (line,) = Board(3, "failed").take(Faulted("shard 0", RuntimeError("secret"), 1.0))
        assert line.text == "shard 0: RuntimeError; it is tried again"
