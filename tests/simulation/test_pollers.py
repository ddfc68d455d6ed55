"""Many real pollers of one mapping, in virtual time, in a world that goes wrong in every way that it can.

A failure names its seed: `play(kind, seed)` plays it again, step by step the same.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import structlog

from headrace import logs, membership
from headrace.resources import SHARD_LEASE
from headrace.stream import running as running_module
from headrace.stream.stores import kubernetes, window_states
from headrace.stream.stores.lease_status import holder_of, status_of
from tests.support.fleet import Begun, Chances, Fleet, Member
from tests.support.fleet_stream import Endpoint, Stream, steady
from tests.support.processes import Clocks, ProcessLoop
from tests.support.virtual import Clock

LOAD = 40.0
"""Seconds in which records come and things go wrong."""
SETTLING = 35.0
"""Seconds after which everything must be in its place: a term, a burial, and every back-off."""
CLOSING = 65.0
"""Seconds after its end at which a poller whose clock is a minute late closes an idle window."""
SEEDS = 12
SOON = 12.0
"""For how long a heartbeat without its poller stays, here."""

Story = Callable[[Fleet, random.Random], Awaitable[None]]


def play(story: Story, seed: int, window: int = 0) -> Fleet:
    """One run of a world, with tumbling windows of so many seconds."""
    clock, draw = Clock(), random.Random(f"{story.__name__} {seed}")
    closes = {"s0": draw.uniform(10, 25)} if seed % 3 == 0 else {}
    fleet = Fleet(seed, clock, steady(LOAD, draw, closes), closes)
    numbers = itertools.count(1)

    async def live() -> None:
        await fleet.make(1 if window else 1 + seed % 2, window)
        await story(fleet, draw)
        await asyncio.sleep(LOAD - clock.now)
        fleet.chances = Chances()
        await asyncio.sleep(SETTLING)
        if window:
            await asyncio.sleep(max(0.0, LOAD + window + CLOSING - clock.now))
        settled(fleet)
        unclosed = [fleet.text(one) for one in range(1, len(fleet.lines) + 1) if one not in fleet.windows.closed]
        if window and unclosed:
            fleet.accuse(f"in no final call: {unclosed}")
        await fleet.end()

    clocks = Clocks(clock)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("headrace.") and getattr(module, "time", None) is time:
                patch.setattr(module, "time", clocks)
            if name.startswith("headrace.") and getattr(module, "random", None) is random:
                patch.setattr(module, "random", fleet.draw)
        unique = SimpleNamespace(
            uuid4=lambda: SimpleNamespace(hex=f"{next(numbers):012d}"), uuid5=uuid.uuid5, UUID=uuid.UUID
        )
        patch.setattr(membership, "uuid", unique)
        patch.setattr(kubernetes, "uuid", unique)
        patch.setattr(membership, "BURIED_AFTER", SOON)
        patch.setattr(membership, "_now", lambda: datetime.fromtimestamp(clocks.time(), UTC).isoformat())
        patch.setattr(kubernetes.KubernetesStore.__init__, "__defaults__", (clocks.time, window_states.PIECE))
        patch.setattr(logs, "observer", lambda _: fleet.observe)
        patch.setattr(running_module, "open_source", lambda *_: Stream(fleet))
        patch.setattr(running_module, "open_function", lambda *_: Endpoint(fleet))
        with asyncio.Runner(loop_factory=lambda: ProcessLoop(clock)) as runner:
            runner.run(live())
    return fleet


def settled(fleet: Fleet) -> None:
    """Everything was done, whoever lives holds his share, and nobody else is heard of."""
    undone = [fleet.text(one) for one in range(1, len(fleet.lines) + 1) if one not in fleet.acknowledged]
    if undone:
        fleet.accuse(f"lost: {undone}")
    living = {member.life: member for member in fleet.members.values() if member.running}
    holders = {shard: holder_of(body) for shard, body in fleet.leases().items()}
    open_shards = {shard for shard, body in fleet.leases().items() if not status_of(body).get("finished")}
    loads = Counter({life: [holders[shard] for shard in open_shards].count(life) for life in living})
    if living:
        if sum(loads.values()) != len(open_shards) or max(loads.values()) - min(loads.values()) > 1:
            fleet.accuse(f"no balance: {holders} among {list(living)}")
        for shard in open_shards & fleet.last.keys():
            stored = int(status_of(fleet.leases()[shard]).get("sequenceNumber") or 0)
            if stored != fleet.last[shard][-1]:
                fleet.accuse(f"{shard} is stored up to {stored} of {fleet.last[shard][-1]}")
        alive = sorted(member.identity for member in living.values())
        if fleet.heartbeats() != alive:
            fleet.accuse(f"heartbeats of {fleet.heartbeats()}, but {alive} live")


@pytest.fixture(autouse=True)
def _quiet() -> object:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


async def three(fleet: Fleet, draw: random.Random) -> list[Member]:
    """Three pollers with clocks that differ by less than a fifth, and a while in which they share the shards."""
    members = []
    for identity in "abc":
        members.append(fleet.start(identity, draw.uniform(0.92, 1.08), draw.uniform(-60, 60)))
        await asyncio.sleep(draw.uniform(0.0, 2.0))
    await asyncio.sleep(draw.uniform(2.0, 5.0))
    return members


async def planned(fleet: Fleet, draw: random.Random) -> None:
    """Pollers come and go as they are told."""
    members = await three(fleet, draw)
    new = itertools.count()
    while fleet.clock.now < LOAD - 5:
        running = [one for one in members if one.running and not one.stop.is_set()]
        if len(running) > 1 and draw.random() < 0.6:
            fleet.leave(draw.choice(running))
        elif len(running) < 4:
            members.append(fleet.start(f"n{next(new)}", draw.uniform(0.92, 1.08)))
        await asyncio.sleep(draw.uniform(0.0, 6.0))


async def crashes(fleet: Fleet, draw: random.Random) -> None:
    """One is killed from time to time, and comes back as itself or as another, or not."""
    members = await three(fleet, draw)
    new = itertools.count()
    while fleet.clock.now < LOAD - 12:
        running = [one for one in members if one.running]
        victim = draw.choice(running)
        fleet.kill(victim)
        if len(running) < 3 or draw.random() < 0.7:
            await asyncio.sleep(draw.uniform(0.0, 8.0))
            identity = victim.identity if draw.random() < 0.6 else f"n{next(new)}"
            members.append(fleet.start(identity, draw.uniform(0.92, 1.08)))
        await asyncio.sleep(draw.uniform(10.0, 14.0))


async def outages(fleet: Fleet, draw: random.Random) -> None:
    """The API server is away once or twice, for everybody."""
    await three(fleet, draw)
    await asyncio.sleep(4.0)
    moves = len(fleet.holders)
    fleet.chances = Chances(hanging=draw.choice((0.0, 0.1)), rest=9.0)
    while fleet.clock.now < LOAD - 10:
        await fleet.outage(draw.choice((0.5, 3.0, 5.5, 7.0, 12.0)) * draw.uniform(0.7, 1.3))
        await asyncio.sleep(draw.uniform(1.0, 8.0))
    if len(fleet.closes) == 0 and fleet.holders[moves:]:
        fleet.accuse(f"shards moved: {fleet.holders[moves:]}")


async def silences(fleet: Fleet, draw: random.Random) -> None:
    """One is halted, or cut off from the API server, while the others go on."""
    members = await three(fleet, draw)
    async with asyncio.TaskGroup() as tasks:
        while fleet.clock.now < LOAD - 5:
            able = [one for one in members if one.running and not one.process.halted and not one.cut]
            if able:
                go = draw.choice((fleet.halt, fleet.cut_off))
                tasks.create_task(go(draw.choice(able), draw.choice((1.0, 4.5, 6.0, 9.0)) * draw.uniform(0.7, 1.4)))
            await asyncio.sleep(draw.uniform(1.0, 6.0))


async def everything(fleet: Fleet, draw: random.Random) -> None:
    """All of it at once, requests that get lost, and heartbeats that somebody deletes."""
    fleet.chances = Chances(
        slow=draw.choice((0.0, 0.05)), lost=0.02, unheard=0.02, hanging=draw.choice((0.0, 0.01)), failing=0.05
    )
    members = await three(fleet, draw)
    new = itertools.count()
    async with asyncio.TaskGroup() as tasks:
        while fleet.clock.now < LOAD - 5:
            running = [one for one in members if one.running]
            able = [one for one in running if not one.process.halted and not one.cut]
            match draw.randrange(7):
                case 0 if able:
                    victim = draw.choice(able)
                    fleet.kill(victim)
                    if draw.random() < 0.6:
                        members.append(fleet.start(victim.identity, draw.uniform(0.92, 1.08)))
                case 1 if able:
                    tasks.create_task(fleet.halt(draw.choice(able), draw.uniform(0.5, 12.0)))
                case 2 if able:
                    tasks.create_task(fleet.cut_off(draw.choice(able), draw.uniform(0.5, 12.0)))
                case 3 if not fleet.down:
                    tasks.create_task(fleet.outage(draw.uniform(0.2, 9.0)))
                case 4 if len(able) > 1:
                    fleet.leave(draw.choice(able))
                case 5 if fleet.heartbeats():
                    delete_heartbeat(fleet, draw)
                case _ if len(running) < 4:
                    members.append(fleet.start(f"n{next(new)}", draw.uniform(0.92, 1.08)))
            await asyncio.sleep(draw.uniform(0.0, 5.0))


def delete_heartbeat(fleet: Fleet, draw: random.Random) -> None:
    key = draw.choice([key for key in fleet.cluster.objects if key[0].plural == "leases"])
    fleet.note(f"the heartbeat {key} is deleted by hand")
    del fleet.cluster.objects[key]


async def by_hand(fleet: Fleet, draw: random.Random) -> None:
    """Somebody starts a second process of a name, deletes heartbeats and a ShardLease, and labels others."""
    members = await three(fleet, draw)
    twin = fleet.start(draw.choice("abc"))
    fleet.loose.add(twin.identity)
    while fleet.clock.now < LOAD - 20:
        await asyncio.sleep(draw.uniform(0.5, 4.0))
        match draw.randrange(3):
            case 0:
                delete_heartbeat(fleet, draw)
            case 1:
                shard, body = draw.choice(sorted(fleet.leases().items()))
                fleet.note(f"the ShardLease of {shard} is labelled by hand")
                body["metadata"]["labels"]["seen"] = str(fleet.clock.now)
                await fleet.cluster.replace(SHARD_LEASE, body)
            case _:
                shard, body = draw.choice(sorted(fleet.leases().items()))
                fleet.note(f"the ShardLease of {shard} is deleted by hand")
                fleet.loose.add(shard)
                await fleet.cluster.delete(SHARD_LEASE, body)
    fleet.kill(draw.choice([one for one in (*members, twin) if one.identity == twin.identity]))


def longest_gap(fleet: Fleet) -> dict[str, float]:
    """The longest time that a record of each shard waited for its call."""
    began: dict[int, float] = {}
    for call in fleet.calls:
        for number in call.records:
            began.setdefault(number, call.at)
    return {
        shard: max(began.get(one, 99.0) - max(8.0, fleet.lines[one - 1].at) for one in numbers)
        for shard, numbers in fleet.last.items()
    }


def unexplained(fleet: Fleet, most: float = 2.5) -> list[str]:
    """The repeats of records that were acknowledged longer than so many seconds before their poller's trouble.

    Those seconds are one between two writes of a checkpoint, one for a call, and the requests' own time.
    """

    def excused(first: Begun) -> bool:
        member = fleet.members[first.process]
        assert first.ended is not None
        return any(began - most <= first.ended and first.at <= ended + most for began, ended in member.troubles)

    return [
        f"{fleet.text(number)}: by {first.process.name} at {first.ended}, by {again.process.name} at {again.at}"
        for number, first, again in fleet.repeats
        if not excused(first)
    ]


def run(story: Story, seeds: Iterable[int], window: int = 0) -> list[Fleet]:
    fleets = []
    for seed in seeds:
        fleet = play(story, seed, window)
        assert not fleet.wrong, "\n".join([f"play({story.__name__}, {seed}, {window})", *fleet.wrong])
        fleets.append(fleet)
    return fleets


def test_planned_moves_repeat_nothing_and_hold_up_no_record() -> None:
    for fleet in run(planned, range(SEEDS)):
        assert not fleet.repeats
        assert max(longest_gap(fleet).values()) < 2.5


def test_a_crash_repeats_what_its_last_checkpoint_left_and_is_made_good_within_ten_seconds() -> None:
    fleets = run(crashes, range(SEEDS))
    assert any(fleet.repeats for fleet in fleets)
    for seed, fleet in enumerate(fleets):
        assert not unexplained(fleet), seed
        assert max(longest_gap(fleet).values()) < 10.0, seed


def test_an_outage_or_a_request_that_hangs_moves_and_repeats_nothing() -> None:
    for seed, fleet in enumerate(run(outages, range(SEEDS))):
        assert not fleet.repeats, seed


def test_pollers_that_are_halted_or_cut_off_lose_their_shards_and_begin_nothing() -> None:
    fleets = run(silences, range(SEEDS))
    assert any(fleet.repeats for fleet in fleets)
    for seed, fleet in enumerate(fleets):
        assert not unexplained(fleet), seed


def test_whatever_goes_wrong_together_nothing_is_lost_and_nothing_is_begun_by_two() -> None:
    run(everything, range(3 * SEEDS))


@pytest.mark.parametrize("story", [planned, outages])
def test_a_planned_move_or_an_outage_keeps_a_windows_state_and_closes_each_record_in_one_window(story: Story) -> None:
    """Though clocks that are wrong by a minute close windows early or late."""
    for seed, fleet in enumerate(run(story, range(SEEDS // 2), window=7)):
        assert not fleet.repeats, seed


@pytest.mark.parametrize("story", [crashes, silences])
def test_whatever_moves_a_window_loses_no_state_and_repeats_only_what_a_trouble_explains(story: Story) -> None:
    for seed, fleet in enumerate(run(story, range(SEEDS // 2), window=7)):
        assert not unexplained(fleet), seed


def test_nothing_that_goes_wrong_together_loses_a_windows_state_or_counts_in_it_twice() -> None:
    run(everything, range(SEEDS), window=7)


def test_two_processes_of_a_name_and_leases_deleted_by_hand_come_to_rest() -> None:
    run(by_hand, range(SEEDS))


def test_a_seed_plays_the_same_again() -> None:
    """But for the order in which the tasks of a killed poller learn of it, all in one moment: a TaskGroup has none."""
    first, second = (sorted(play(everything, 5).log) for _ in range(2))
    assert first == second
