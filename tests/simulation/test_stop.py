"""The end of real pollers whose API server takes every request and answers none, in virtual time.

Before a pod is killed it has its function's time and STOP_MARGIN.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from headrace.ending import DRAINING, FAREWELL, GIVING_BACK, LAST_CHECKPOINT, LOOKING, STOP_MARGIN
from headrace.stream.functions.http import CONNECT_TIMEOUT, GRACE
from tests.simulation.test_pollers import _quiet as _quiet  # noqa: PLC0414 - a fixture
from tests.simulation.test_pollers import play, three
from tests.support.fleet import Chances, Fleet, Member
from tests.support.fleet_stream import Endpoint

SEEDS = 12
FUNCTION_TIMEOUT = 30.0
"""The mapping's, by default."""
EXIT = 2.0
"""Seconds for what a process does behind all that is waited for here."""


async def ended(fleet: Fleet, members: list[Member]) -> dict[str, float]:
    """Asks pollers to leave and says how long each took."""
    began = fleet.clock.now
    took: dict[str, float] = {}

    async def end(member: Member) -> None:
        fleet.leave(member)
        await asyncio.wait([member.task], timeout=300.0)
        took[member.process.name] = fleet.clock.now - began

    await asyncio.gather(*map(end, members))
    return took


def test_the_parts_of_an_end_fit_in_what_a_pod_has() -> None:
    assert DRAINING + GIVING_BACK + FAREWELL + EXIT <= STOP_MARGIN
    assert CONNECT_TIMEOUT + GRACE < DRAINING
    assert GRACE + LAST_CHECKPOINT + GIVING_BACK < DRAINING
    assert LOOKING < LAST_CHECKPOINT


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_stop_ends_in_time_though_no_request_is_answered_any_more(seed: int) -> None:
    took: dict[str, float] = {}

    async def deaf(fleet: Fleet, draw: random.Random) -> None:
        members = await three(fleet, draw)
        fleet.chances = Chances(failing=0.05)
        await asyncio.sleep(draw.uniform(3.0, 6.0))
        fleet.chances = Chances(hanging=1.0, failing=0.05)
        await asyncio.sleep(draw.uniform(0.0, 12.0))
        took.update(await ended(fleet, members))
        fleet.chances = Chances()
        fleet.start("new")

    fleet = play(deaf, seed)
    assert not fleet.wrong, "\n".join(fleet.wrong)
    assert len(took) == 3
    assert max(took.values()) <= STOP_MARGIN - EXIT


def test_a_call_that_takes_all_its_time_under_a_deaf_api_server_ends_in_time_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    took: dict[str, float] = {}

    async def deaf(fleet: Fleet, draw: random.Random) -> None:
        members = await three(fleet, draw)
        await asyncio.sleep(4.0)
        invoke = Endpoint.invoke

        async def slowly(endpoint: Endpoint, call: object) -> object:
            answer = await invoke(endpoint, call)  # type: ignore[arg-type]
            await asyncio.sleep(CONNECT_TIMEOUT + FUNCTION_TIMEOUT + GRACE)
            return answer

        monkeypatch.setattr(Endpoint, "invoke", slowly)
        await asyncio.sleep(2.0)
        fleet.chances = Chances(hanging=1.0)
        took.update(await ended(fleet, members))
        monkeypatch.setattr(Endpoint, "invoke", invoke)
        fleet.chances = Chances()
        fleet.start("new")

    fleet = play(deaf, 1)
    assert not fleet.wrong, "\n".join(fleet.wrong)
    assert CONNECT_TIMEOUT + FUNCTION_TIMEOUT < max(took.values()) <= FUNCTION_TIMEOUT + STOP_MARGIN - EXIT


@pytest.mark.parametrize("seed", range(SEEDS // 2))
def test_a_stop_repeats_nothing_though_every_tenth_request_hangs(seed: int) -> None:
    async def halting(fleet: Fleet, draw: random.Random) -> None:
        members = await three(fleet, draw)
        await asyncio.sleep(draw.uniform(3.0, 6.0))
        fleet.chances = Chances(hanging=0.1, rest=9.0)
        await ended(fleet, members[:2])
        fleet.chances = Chances()

    fleet = play(halting, seed)
    assert not fleet.wrong, "\n".join(fleet.wrong)
    assert not fleet.repeats
