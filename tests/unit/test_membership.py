"""The shell around a poller's heartbeat, in virtual time: names used twice, reports edited by hand, requests that hang."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from headrace import membership
from headrace.cluster import ClusterError
from headrace.heartbeat import TERM, Heartbeat, heartbeat_of, lease_name
from headrace.membership import LEAST_PATIENCE, PollerMembership
from headrace.records import Holder
from headrace.resources import ANNOTATION_REPORT, LEASE, MappingRef
from headrace.stream.leases import Claim
from tests.support.fake_cluster import FakeCluster
from tests.support.virtual import Clock, run_virtually

REF = MappingRef("shop", "orders", "0a1b2c3d-1")


class Api:
    """The API server as one process reaches it; requests that `hangs` names are never answered."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.asked: Counter[str] = Counter()
        self.hangs: Callable[[int], bool] = lambda _: False
        """By the number of the request."""
        self.takes = 0.01
        """Seconds."""
        self.refuses = False

    def __getattr__(self, name: str) -> Any:
        async def ask(*arguments: Any) -> Any:
            number = self.asked.total()
            self.asked[name] += 1
            if self.hangs(number):
                await asyncio.Event().wait()
            await asyncio.sleep(self.takes)
            if self.refuses:
                raise ClusterError("no", 503)
            return await getattr(self.cluster, name)(*arguments)

        return ask


@dataclass(eq=False)
class Member:
    """A process with its membership; `won` are the lives in whose name its leases were won anew."""

    identity: str
    cluster: FakeCluster
    won: list[Holder] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.api = Api(self.cluster)
        report = lambda: Heartbeat(self.identity, 1)  # noqa: E731
        self.membership = PollerMembership(self.api, REF, self.identity, report, self.regain)
        self.task = asyncio.ensure_future(self.membership.run())

    async def regain(self, holder: Holder) -> Mapping[str, str | None]:
        self.won.append(holder)
        return {}

    @property
    def open(self) -> bool:
        return not self.membership.closed

    async def stop(self) -> None:
        self.kill()
        await self.membership.aclose()

    def kill(self) -> None:
        self.task.cancel()


@pytest.fixture
def virtually(monkeypatch: pytest.MonkeyPatch) -> Callable[[Coroutine[Any, Any, None]], None]:
    clock = Clock()
    monkeypatch.setattr(membership, "time", clock)
    monkeypatch.setattr(membership, "_now", lambda: f"{clock.now:.6f}")
    return lambda main: run_virtually(clock, main)


Virtually = Callable[[Coroutine[Any, Any, None]], None]


# ---- a name that two processes use


def test_a_poller_whose_name_another_uses_steps_aside_says_so_once_and_looks_again_calmly(virtually: Virtually) -> None:
    async def main() -> None:
        with capture_logs() as logs:
            cluster = FakeCluster()
            first = Member("a", cluster)
            await asyncio.sleep(5.0)
            second = Member("a", cluster)
            await asyncio.sleep(5.0)
            before = first.api.asked.total()
            await asyncio.sleep(60.0)
        assert (first.open, second.open) == (False, True)
        assert first.api.asked.total() - before <= 65, "a look for the name and a read of all every two seconds"
        assert [entry["log_level"] for entry in logs if "another process uses" in entry["event"]] == ["error"]
        assert len(second.won) == 1, "who has the name is not disturbed"

    virtually(main())


@pytest.mark.parametrize(("ends", "within"), [("stop", 3.0), ("kill", TERM + 3.0)])
def test_it_has_its_name_again_once_the_other_has_gone(virtually: Virtually, ends: str, within: float) -> None:
    async def main() -> None:
        with capture_logs() as logs:
            cluster = FakeCluster()
            first = Member("a", cluster)
            await asyncio.sleep(5.0)
            second = Member("a", cluster)
            await asyncio.sleep(20.0)
            await second.stop() if ends == "stop" else second.kill()
            await asyncio.sleep(within)
        assert first.open
        assert first.won[-1] == first.membership.holder != first.won[0], "in a new life, its leases won anew"
        assert len([entry for entry in logs if "no other process" in entry["event"]]) == 1

    virtually(main())


def test_a_third_process_of_the_name_is_told_again_only_after_the_name_was_free(virtually: Virtually) -> None:
    async def main() -> None:
        with capture_logs() as logs:
            cluster = FakeCluster()
            Member("a", cluster)
            for _ in range(2):
                await asyncio.sleep(10.0)
                other = Member("a", cluster)
                await asyncio.sleep(10.0)
                await other.stop()
        assert len([entry for entry in logs if "another process uses" in entry["event"]]) == 2

    virtually(main())


def test_leases_that_name_a_new_life_of_ones_name_close_the_fence_until_the_name_was_looked_at(
    virtually: Virtually,
) -> None:
    async def main() -> None:
        cluster = FakeCluster()
        first = Member("a", cluster)
        await asyncio.sleep(5.0)
        life = first.membership.holder
        before = [Claim("s1", life), Claim("s2", Holder("a", "of a process that has ended"))]
        assert first.membership.decide(before, ["s1"], []).take == ("s2",)
        second = Member("a", cluster)
        await asyncio.sleep(0.1)
        taken = [Claim(shard, second.membership.holder) for shard in ("s1", "s2")]
        assert second.membership.decide(before, [], []).take == ("s1", "s2"), "what it finds at its start is over"
        assert first.membership.decide(taken, [], []).take == ()
        assert not first.open
        await asyncio.sleep(0.2)
        assert not first.open
        assert first.membership.holder != life, "it has looked, and stepped aside"

    virtually(main())


def test_a_lease_that_was_given_a_life_by_hand_is_taken_once_the_name_was_looked_at(virtually: Virtually) -> None:
    async def main() -> None:
        a = Member("a", FakeCluster())
        await asyncio.sleep(5.0)
        assert a.membership.decide([Claim("s1", a.membership.holder)], ["s1"], []).take == ()
        edited = [Claim("s1", Holder("a", "?"))]
        assert a.membership.decide(edited, [], []).take == ()
        await asyncio.sleep(0.1)
        assert a.membership.decide(edited, [], []).take == ("s1",)
        assert len(a.won) == 1, "in the same life"

    virtually(main())


# ---- reports that are edited by hand


async def edit(cluster: FakeCluster, identity: str, report: str | None) -> None:
    (body,) = [one for one in await cluster.select(LEASE, "shop") if heartbeat_of(one).identity == identity]
    body["metadata"]["annotations"] = {} if report is None else {ANNOTATION_REPORT: report}
    await cluster.replace(LEASE, body)


def with_wrong(name: str, value: object) -> str:
    return orjson.dumps(orjson.loads(Heartbeat("a", 1).encode()) | {name: value}).decode()


BROKEN = {
    "no annotation": None,
    "no JSON": "{",
    "no object": "[]",
    "asks for a list": with_wrong("asks", []),
    "an age in words": with_wrong("iterator_age_seconds", "x"),
    "a life that is a number": with_wrong("incarnation", 7),
    "a count without end": with_wrong("shards_held", -1),
}


@pytest.mark.parametrize("report", BROKEN.values(), ids=BROKEN)
def test_a_report_edited_by_hand_moves_nothing_is_told_once_and_healed(
    virtually: Virtually, report: str | None
) -> None:
    async def main() -> None:
        with capture_logs() as logs:
            cluster = FakeCluster()
            a, b = Member("a", cluster), Member("b", cluster)
            await asyncio.sleep(5.0)
            life = a.membership.holder
            await edit(cluster, "a", report)
            for _ in range(100):
                await asyncio.sleep(0.1)
                assert a.open
                assert b.open
                assert not b.membership.is_free(life)
        assert [entry for entry in logs if "another process uses" in entry["event"]] == []
        told = [entry for entry in logs if "cannot be read" in entry["event"]]
        assert len(told) <= 2, "once by each"
        assert {entry["lease"] for entry in told} == {lease_name(REF, "a")}
        healed = {heartbeat_of(body).incarnation for body in await cluster.select(LEASE, "shop")}
        assert healed == {life.incarnation, b.membership.holder.incarnation}, "in the same lives"

    virtually(main())


def test_a_report_that_nobody_heals_keeps_its_dead_poller_alive_for_a_term_only(virtually: Virtually) -> None:
    async def main() -> None:
        cluster = FakeCluster()
        a, b = Member("a", cluster), Member("b", cluster)
        await asyncio.sleep(5.0)
        a.kill()
        await edit(cluster, "a", "{")
        b.membership.decide([], [], [])
        await asyncio.sleep(TERM - 1.0)
        assert not b.membership.is_free(a.membership.holder)
        await asyncio.sleep(2.5)
        assert b.membership.is_free(a.membership.holder)

    virtually(main())


# ---- requests that hang


@pytest.mark.parametrize("first", range(40))
def test_two_requests_in_a_row_that_hang_cost_a_poller_nothing(virtually: Virtually, first: int) -> None:
    async def main() -> None:
        cluster = FakeCluster()
        a, b = Member("a", cluster), Member("b", cluster)
        await asyncio.sleep(5.0)
        number = a.api.asked.total() + first
        a.api.hangs = lambda it: it in {number, number + 1}
        for _ in range(400):
            await asyncio.sleep(0.05)
            assert a.open
            assert not b.membership.is_free(a.membership.holder)
        assert a.api.asked.total() > number + 2
        assert len(a.won) == 1

    virtually(main())


def test_an_api_server_that_answers_slowly_costs_a_poller_nothing(virtually: Virtually) -> None:
    async def main() -> None:
        a = Member("a", FakeCluster())
        await asyncio.sleep(5.0)
        a.api.takes = 1.5
        for _ in range(400):
            await asyncio.sleep(0.05)
            assert a.open

    virtually(main())


def test_one_that_never_answers_is_asked_in_growing_haste_and_the_fence_closes_in_time(virtually: Virtually) -> None:
    async def main() -> None:
        with capture_logs() as logs:
            a = Member("a", FakeCluster())
            await asyncio.sleep(5.0)
            a.api.hangs = lambda _: True
            before = a.api.asked.total()
            await asyncio.sleep(TERM)
            assert not a.open
            assert 3 <= a.api.asked.total() - before <= TERM / LEAST_PATIENCE
            a.api.hangs = lambda _: False
            await asyncio.sleep(3.0)
            assert a.open
        assert len([entry for entry in logs if entry["log_level"] == "warning"]) == 1

    virtually(main())


def test_a_goodbye_ends_in_time_though_nobody_answers(virtually: Virtually) -> None:
    async def main() -> None:
        a = Member("a", FakeCluster())
        await asyncio.sleep(5.0)
        a.api.hangs = lambda _: True
        a.kill()
        began = asyncio.get_running_loop().time()
        await a.membership.aclose()
        assert asyncio.get_running_loop().time() - began <= 2.1

    virtually(main())


def test_a_server_that_refuses_is_told_once_and_asked_twice_a_second(virtually: Virtually) -> None:
    async def main() -> None:
        with capture_logs() as logs:
            a = Member("a", FakeCluster())
            await asyncio.sleep(5.0)
            a.api.refuses, before = True, a.api.asked.total()
            await asyncio.sleep(10.0)
        assert a.api.asked.total() - before <= 21
        assert len([entry for entry in logs if entry["log_level"] == "warning"]) == 1

    virtually(main())


# ---- the calls of a queue, divided among its pollers


def asking(total: int, *members: Member) -> list[int]:
    return [member.membership.limit(total) for member in members]


def test_alone_it_has_all_calls_within_a_moment_and_none_while_in_doubt(virtually: Virtually) -> None:
    async def main() -> None:
        a = Member("a", FakeCluster())
        assert asking(50, a) == [0]
        await asyncio.sleep(0.2)
        assert asking(50, a) == [50]
        with capture_logs():
            a.api.hangs = lambda _: True
            await asyncio.sleep(TERM)
            assert asking(50, a) == [0]
            a.api.hangs = lambda _: False
            await asyncio.sleep(3.0)
            assert asking(50, a) == [50]

    virtually(main())


def test_whoever_joins_or_leaves_the_calls_are_divided_anew_and_never_too_many(virtually: Virtually) -> None:
    async def main() -> None:
        cluster = FakeCluster()
        members: dict[str, Member] = {}

        async def settled(seconds: float) -> list[int]:
            for _ in range(int(seconds / 0.05)):
                await asyncio.sleep(0.05)
                assert sum(asking(50, *members.values())) <= 50
            return asking(50, *members.values())

        for name, shares in (("a", [50]), ("b", [25, 25]), ("c", [17, 17, 16])):
            members[name] = Member(name, cluster)
            assert await settled(4.0) == shares
        members["b"].membership.leave()
        assert await settled(2.0) == [25, 0, 25]
        await members.pop("b").stop()
        members["c"].kill()
        del members["c"]
        assert (await settled(TERM - 2.5))[0] == 25, "what the dead may still have in flight is nobody's"
        assert await settled(4.0) == [50]

    virtually(main())


def test_calls_in_flight_keep_their_claim_until_they_end_and_then_it_is_let_go_at_once(virtually: Virtually) -> None:
    async def main() -> None:
        cluster = FakeCluster()
        a = Member("a", cluster)
        await asyncio.sleep(1.0)
        asking(50, a)
        await asyncio.sleep(1.0)
        a.membership.report_calls(50)
        b = Member("b", cluster)
        await asyncio.sleep(1.0)
        asking(50, b)
        await asyncio.sleep(4.0)
        assert asking(50, a, b) == [25, 0]
        a.membership.report_calls(40)
        await asyncio.sleep(2.0)
        assert asking(50, a, b) == [25, 10], "the others need not wait for the last of them"
        a.membership.report_calls(25)
        await asyncio.sleep(1.0)
        assert asking(50, a, b) == [25, 25]

    virtually(main())


def test_while_nothing_changes_a_share_costs_no_request(virtually: Virtually) -> None:
    async def main() -> None:
        cluster = FakeCluster()
        members = [Member(name, cluster) for name in "ab"]
        for shares in (False, True):
            if shares:
                asking(50, *members)
            await asyncio.sleep(5.0)
            before = members[0].api.asked.total()
            for number in range(200):
                await asyncio.sleep(0.1)
                if shares:
                    asking(50, *members)
                    members[0].membership.report_calls(number % 26)
            spent = members[0].api.asked.total() - before
            assert spent <= 52, "a renewal every two seconds, a read every half second"

    virtually(main())


def test_a_claim_that_cannot_be_read_may_be_anything_so_that_nobody_raises_his(virtually: Virtually) -> None:
    async def main() -> None:
        with capture_logs():
            cluster = FakeCluster()
            a, b = Member("a", cluster), Member("b", cluster)
            await asyncio.sleep(5.0)
            asking(50, b)
            await asyncio.sleep(2.0)
            assert asking(50, b) == [50], "the other has not asked"
            a.kill()
            await edit(cluster, "a", "{")
            await asyncio.sleep(1.0)
            assert asking(60, b) == [50]
            await asyncio.sleep(TERM + 2.0)
            assert asking(60, b) == [60]

    virtually(main())


def test_a_name_that_two_processes_use_shares_no_calls_with_itself_and_asks_no_more_often(virtually: Virtually) -> None:
    async def main() -> None:
        with capture_logs():
            cluster = FakeCluster()
            first = Member("a", cluster)
            await asyncio.sleep(5.0)
            asking(50, first)
            second = Member("a", cluster)
            await asyncio.sleep(5.0)
            asking(50, first, second)
            await asyncio.sleep(1.0)
            assert asking(50, first, second) == [0, 50]
            before = first.api.asked.total()
            await asyncio.sleep(60.0)
            assert first.api.asked.total() - before <= 65

    virtually(main())


def test_the_heartbeat_tells_the_largest_backlog_of_the_last_minutes(virtually: Virtually) -> None:
    async def told(cluster: FakeCluster) -> int | None:
        await asyncio.sleep(3.0)
        (body,) = await cluster.select(LEASE, "shop")
        return heartbeat_of(body).backlog

    async def main() -> None:
        cluster = FakeCluster()
        a = Member("a", cluster)
        assert await told(cluster) is None
        for backlog, largest in ((700, 700), (9_000, 9_000), (20, 9_000)):
            a.membership.report_backlog(backlog)
            assert await told(cluster) == largest
        await asyncio.sleep(295.0)
        assert await told(cluster) == 20
        await asyncio.sleep(300.0)
        assert await told(cluster) is None

    virtually(main())
