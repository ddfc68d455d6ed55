"""The operators' election: the rule by itself, then several operators on one clock that the test turns."""

from __future__ import annotations

import asyncio
import itertools
from functools import wraps
from typing import TYPE_CHECKING, Any

import pytest

from headrace.cluster import ClusterError
from headrace.control import elector as shell
from headrace.control.elector import Elector, Fenced, LeadershipLost
from headrace.control.leadership import Election, Move, Record, Seen, Terms, acquired, decide, record_of, released, see
from headrace.resources import CONFIG_MAP, LEASE
from tests.support.fake_cluster import FakeCluster
from tests.support.virtual import Clock, run_virtually

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from headrace.cluster import Body

MINE, OTHER = Election("system", "headrace", "me"), Election("system", "headrace", "other")
HELD = Record("other", "t1", 15.0)


@pytest.mark.parametrize(
    ("record", "seen_for", "move"),
    [
        (None, 0.0, Move.ACQUIRE),
        (Record("", "t1", 15.0), 0.0, Move.ACQUIRE),
        (Record("me", "t1", 15.0), 0.0, Move.ACQUIRE),
        (HELD, 14.9, Move.WAIT),
        (HELD, 15.0, Move.ACQUIRE),
        (Record("other", "t1", 30.0), 29.9, Move.WAIT),
        (Record("other", "t1", 1e9), 59.9, Move.WAIT),
        (Record("other", "t1", 1e9), 60.0, Move.ACQUIRE),
        (Record("other", "t1", None), 14.9, Move.WAIT),
        (Record("other", "t1", None), 15.0, Move.ACQUIRE),
    ],
)
def test_a_follower_takes_what_is_free_or_was_not_renewed_for_a_term(
    record: Record | None, seen_for: float, move: Move
) -> None:
    assert decide(MINE, Seen(record, 100.0), None, 100.0 + seen_for) is move


@pytest.mark.parametrize(
    ("holder", "since_renewal", "move"),
    [("me", 9.9, Move.RENEW), ("me", 10.0, Move.LOST), ("other", 0.0, Move.LOST), ("", 0.0, Move.LOST)],
)
def test_a_leader_renews_until_its_deadline_or_until_somebody_else_is_named(
    holder: str, since_renewal: float, move: Move
) -> None:
    assert decide(MINE, Seen(Record(holder, "t1", 15.0), 100.0), 100.0, 100.0 + since_renewal) is move


def test_the_term_runs_from_the_first_look_at_a_record_and_anew_with_each_change() -> None:
    seen = see(None, HELD, 1.0)
    assert see(seen, HELD, 9.0).since == 1.0
    assert see(seen, Record("other", "t2", 15.0), 9.0).since == 9.0


def test_a_lease_that_vanishes_is_no_release() -> None:
    seen = see(see(None, HELD, 1.0), None, 9.0)
    assert decide(MINE, seen, None, 15.9) is Move.WAIT
    assert decide(MINE, seen, None, 16.0) is Move.ACQUIRE


def test_a_leader_gives_up_before_anybody_takes_over() -> None:
    """Whatever the moment at which its last renewal arrived: it was seen no earlier than it was sent."""
    terms = Terms()
    for late in range(5):
        seen = Seen(Record("me", "t", terms.duration), 100.0 + late)
        lost = next(at for at in range(100, 200) if decide(MINE, seen, 100.0, at) is Move.LOST)
        taken = next(at for at in range(100, 200) if decide(OTHER, seen, None, at) is Move.ACQUIRE)
        assert lost + 5 <= taken


def test_the_lease_tells_who_since_when_and_how_often_it_changed_hands() -> None:
    first = acquired(None, OTHER, "t1")
    assert first["spec"]["leaseTransitions"] == 0
    assert record_of(first) == Record("other", "t1", 15.0)
    free = released(first, "t2")
    assert record_of(free) == Record("", "t2", 15.0)
    second = acquired(free | {"metadata": {"name": "headrace", "resourceVersion": "7"}}, MINE, "t3")
    assert second["metadata"]["resourceVersion"] == "7", "a write over another version is refused"
    assert (second["spec"]["leaseTransitions"], second["spec"]["acquireTime"]) == (1, "t3")


def test_a_lease_is_written_as_the_api_server_takes_it() -> None:
    assert acquired(None, MINE, "t1") == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "headrace", "namespace": "system"},
        "spec": {
            "holderIdentity": "me",
            "leaseDurationSeconds": 15,
            "acquireTime": "t1",
            "renewTime": "t1",
            "leaseTransitions": 0,
        },
    }


@pytest.mark.parametrize(("election", "transitions"), [(OTHER, 3), (MINE, 4)])
def test_transitions_count_on_unless_the_last_holder_comes_back(election: Election, transitions: int) -> None:
    spec = {"holderIdentity": "other", "leaseTransitions": 3}
    assert acquired({"metadata": {}, "spec": spec}, election, "t2")["spec"]["leaseTransitions"] == transitions


def test_a_lease_that_somebody_made_empty_is_free_and_promises_nothing() -> None:
    assert record_of({"metadata": {}}) == Record("", "None", None)
    assert acquired({"metadata": {}}, MINE, "t1")["spec"]["leaseTransitions"] == 1


class Api(FakeCluster):
    """An API server that the test takes away, per operator by the name it writes, or for all."""

    def __init__(self) -> None:
        super().__init__()
        self.cut: set[str] = set()
        self.silent: set[str] = set()
        self.swallows_answers = False

    def of(self, who: str) -> _Line:
        return _Line(self, who)


class _Line:
    """One operator's way to the server."""

    def __init__(self, api: Api, who: str) -> None:
        self._api, self._who = api, who

    async def find(self, *arguments: Any) -> Body | None:
        await self._pass()
        return await self._api.find(*arguments)

    async def create(self, *arguments: Any) -> Body:
        await self._pass()
        body = await self._api.create(*arguments)
        await self._answer()
        return body

    async def replace(self, *arguments: Any) -> Body:
        await self._pass()
        body = await self._api.replace(*arguments)
        await self._answer()
        return body

    async def _pass(self) -> None:
        if self._who in self._api.silent:
            await asyncio.Event().wait()
        if self._who in self._api.cut:
            raise ClusterError("cut")

    async def _answer(self) -> None:
        if self._api.swallows_answers:
            raise ClusterError("no answer")


class Operator:
    """One operator of an election with the terms as they are."""

    def __init__(self, api: Api, name: str) -> None:
        self.api = api
        self.stop = asyncio.Event()
        self.working = False
        line: Any = api.of(name)
        self.elector = Elector(line, Election("system", "headrace", name), asyncio.get_running_loop().time)
        self.task = asyncio.create_task(self.elector.lead(self._work, self.stop))

    async def _work(self) -> None:
        self.working = True
        try:
            await self.stop.wait()
        finally:
            self.working = False

    async def until(self, *, working: bool, seconds: float = 60.0) -> float:
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(seconds):
            while self.working is not working:
                await asyncio.sleep(0.01)
        return asyncio.get_running_loop().time() - began

    async def kill(self) -> None:
        self.api.cut.add(self.elector.election.identity)
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def end(self) -> None:
        self.stop.set()
        await self.task


def virtually(test: Callable[[Api], Coroutine[Any, Any, None]]) -> Callable[[Api], None]:
    """A test in virtual time."""

    @wraps(test)
    def run(api: Api) -> None:
        run_virtually(Clock(), test(api))

    return run


@pytest.fixture
def api() -> Api:
    return Api()


def holder(api: Api) -> str:
    return record_of(api.objects[LEASE, "system", "headrace"]).holder


@virtually
async def test_one_of_two_leads_and_the_other_stands_by(api: Api) -> None:
    a = Operator(api, "a")
    await a.until(working=True)
    b = Operator(api, "b")
    await asyncio.sleep(100)
    assert (a.working, b.working, b.elector.stands_by()) == (True, False, True)
    await b.end()
    assert holder(api) == "a", "who does not lead releases nothing"
    await a.end()


@virtually
async def test_two_that_begin_at_once_never_both_lead(api: Api) -> None:
    operators = [Operator(api, name) for name in "abc"]
    await asyncio.sleep(20)
    assert sum(each.working for each in operators) == 1
    for each in operators:
        await each.end()


@virtually
async def test_a_clean_stop_hands_over_at_once(api: Api) -> None:
    a = Operator(api, "a")
    await a.until(working=True)
    b = Operator(api, "b")
    await asyncio.sleep(3)
    await a.end()
    assert await b.until(working=True) <= 2.1
    await b.end()
    assert holder(api) == ""


@virtually
async def test_work_that_fails_or_is_cancelled_frees_the_lease_too(api: Api) -> None:
    a = Operator(api, "a")
    await a.until(working=True)
    a.task.cancel()
    await asyncio.gather(a.task, return_exceptions=True)
    assert holder(api) == ""


@virtually
async def test_a_crash_is_taken_over_after_the_term_and_not_before(api: Api) -> None:
    a = Operator(api, "a")
    await a.until(working=True)
    b = Operator(api, "b")
    await asyncio.sleep(3)
    await a.kill()
    assert 13 <= await b.until(working=True) <= 17.1
    await b.end()


@pytest.mark.parametrize("how", ["cut", "silent"])
def test_a_leader_without_the_api_server_stops_before_another_begins_and_ends(api: Api, how: str) -> None:
    run_virtually(Clock(), without_the_api_server(api, how))


async def without_the_api_server(api: Api, how: str) -> None:
    a = Operator(api, "a")
    await a.until(working=True)
    b = Operator(api, "b")
    await asyncio.sleep(3)
    getattr(api, how).add("a")
    assert 7.9 <= await a.until(working=False) <= 10.1
    await asyncio.sleep(4)
    assert not b.working
    with pytest.raises(ExceptionGroup) as raised:
        await a.task
    assert raised.group_contains(LeadershipLost)
    await b.until(working=True)
    await b.end()


@virtually
async def test_an_outage_that_is_shorter_than_the_deadline_moves_nothing(api: Api) -> None:
    a = Operator(api, "a")
    await a.until(working=True)
    b = Operator(api, "b")
    for _ in range(5):
        api.cut |= {"a", "b"}
        await asyncio.sleep(6)
        api.cut.clear()
        await asyncio.sleep(6)
    assert (a.working, b.working) == (True, False)
    await a.end()
    await b.until(working=True)
    await b.end()


@virtually
async def test_a_leader_that_another_name_was_written_over_stops_at_once(api: Api) -> None:
    a = Operator(api, "a")
    await a.until(working=True)
    lease = api.objects[LEASE, "system", "headrace"]
    await api.replace(LEASE, acquired(lease, OTHER, "t9"))
    assert await a.until(working=False) <= 3.1
    await asyncio.gather(a.task, return_exceptions=True)
    assert holder(api) == "other"


@virtually
async def test_a_leader_makes_its_lease_anew_when_somebody_deletes_or_annotates_it(api: Api) -> None:
    a = Operator(api, "a")
    await a.until(working=True)
    await api.merge(LEASE, "system", "headrace", {"metadata": {"annotations": {"a": "b"}}})
    await asyncio.sleep(5)
    await api.delete(LEASE, api.objects[LEASE, "system", "headrace"])
    await asyncio.sleep(5)
    assert a.working
    assert holder(api) == "a"
    await a.end()


@virtually
async def test_a_write_whose_answer_was_lost_is_found_at_the_next_look(api: Api) -> None:
    api.swallows_answers = True
    a = Operator(api, "a")
    await asyncio.sleep(3)
    assert holder(api) == "a"
    assert not a.working, "nobody works on an answer that did not come"
    api.swallows_answers = False
    assert await a.until(working=True) <= 2.1
    await a.end()


@virtually
async def test_who_stops_after_a_lost_answer_releases_what_it_may_hold(api: Api) -> None:
    api.swallows_answers = True
    a = Operator(api, "a")
    await asyncio.sleep(3)
    api.swallows_answers = False
    a.stop.set()
    await a.task
    assert holder(api) == ""


@virtually
async def test_a_failing_api_server_is_asked_at_the_pace_of_the_election(api: Api) -> None:
    asked = itertools.count()

    class Failing(_Line):
        async def _pass(self) -> None:
            next(asked)
            raise ClusterError("always")

    line: Any = Failing(api, "a")
    elector = Elector(line, Election("system", "headrace", "a"), asyncio.get_running_loop().time)
    stop = asyncio.Event()

    async def nothing() -> None:
        """Never begins."""

    task = asyncio.create_task(elector.lead(nothing, stop))
    await asyncio.sleep(60)
    stop.set()
    await task
    assert 25 <= next(asked) <= 35
    assert not elector.stands_by()


async def test_a_halted_leader_writes_nothing_when_it_goes_on() -> None:
    now = 100.0
    cluster = FakeCluster()
    elector = Elector(cluster, MINE, lambda: now)
    await elector._try(1.0)
    fenced = Fenced(cluster, elector.leads)
    body = {"metadata": {"name": "a", "namespace": "shop"}}
    made = await fenced.create(CONFIG_MAP, body)
    now += MINE.terms.deadline
    for write in (
        fenced.create(CONFIG_MAP, {"metadata": {"name": "b", "namespace": "shop"}}),
        fenced.replace(CONFIG_MAP, made),
        fenced.merge(CONFIG_MAP, "shop", "a", {}),
        fenced.delete(CONFIG_MAP, made),
    ):
        with pytest.raises(ClusterError, match="does not lead"):
            await write
    assert await fenced.find(CONFIG_MAP, "shop", "a") == made
    assert await fenced.select(CONFIG_MAP, None) == [made]


def test_two_tries_fit_before_the_deadline() -> None:
    assert Terms().deadline >= 2 * shell.PATIENCE
