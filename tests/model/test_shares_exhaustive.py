"""Every order in which pollers of a queue write claims, read each other's, begin and end calls, come, die and leave.

What must hold: calls in flight of pollers whose heartbeat counts are never more than the limit. And whoever is left
alone to write and read reaches an equal share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest

from headrace.stream.queues.shares import Share, target


@dataclass(frozen=True)
class Poller:
    """`told` is the claim in its heartbeat, None without one; `read` says that it has read since it wrote."""

    share: Share = field(default_factory=Share)
    told: int | None = None
    in_flight: int = 0
    alive: bool = False
    due_to_read: bool = False


Pollers = tuple[Poller, ...]


def others(pollers: Pollers, number: int) -> list[int]:
    return [n for n, one in enumerate(pollers) if n != number and one.told is not None]


def put(pollers: Pollers, number: int, **changes: object) -> Pollers:
    changed = replace(pollers[number], **changes)  # type: ignore[arg-type]
    return (*pollers[:number], changed, *pollers[number + 1 :])


def write(pollers: Pollers, number: int, total: int) -> Pollers:
    one = pollers[number]
    mine = target(total, map(str, others(pollers, number)), str(number))
    share = one.share.claiming(mine, one.in_flight)
    return put(pollers, number, share=share, told=share.claim, due_to_read=True)


def read(pollers: Pollers, number: int, total: int) -> Pollers:
    claimed = sum(pollers[n].told or 0 for n in others(pollers, number))
    return put(pollers, number, share=pollers[number].share.after_read(total, claimed), due_to_read=False)


def steps(pollers: Pollers, total: int) -> Iterable[Pollers]:
    for number, one in enumerate(pollers):
        if not one.alive:
            yield put(pollers, number, alive=True, share=Share(), told=None, in_flight=0)  # another process
            continue
        yield write(pollers, number, total)
        if one.told is not None:
            yield read(pollers, number, total)
        if one.told is not None and one.in_flight < one.share.granted:
            yield put(pollers, number, in_flight=one.in_flight + 1)
        if one.in_flight:
            yield put(pollers, number, in_flight=one.in_flight - 1)
        yield put(pollers, number, alive=False, told=None, in_flight=0)  # dead, and seen to be


@pytest.mark.parametrize(("count", "total"), [(1, 2), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2)])
def test_no_order_of_events_lets_more_calls_begin_than_there_may_be(count: int, total: int) -> None:
    start: Pollers = (Poller(),) * count
    seen, ahead = {start}, [start]
    while ahead:
        pollers = ahead.pop()
        assert sum(one.in_flight for one in pollers) <= total, pollers
        assert all(one.share.granted <= (one.told or 0) for one in pollers if one.alive and one.told is not None)
        for following in steps(pollers, total):
            if following not in seen:
                seen.add(following)
                ahead.append(following)
    print(f"{count} pollers, {total} calls: {len(seen)} states")
    for pollers in seen:
        settled = settle(pollers, total)
        living = [n for n, one in enumerate(settled) if one.alive]
        shares = [settled[n].share.granted for n in living]
        assert shares == [target(total, map(str, living), str(n)) for n in living], pollers


def settle(pollers: Pollers, total: int) -> Pollers:
    """Calls end, and everybody alive writes and reads three times in turn."""
    for number in range(len(pollers)):
        pollers = put(pollers, number, in_flight=0)
    for _ in range(3):
        for number, one in enumerate(pollers):
            if one.alive:
                pollers = read(write(pollers, number, total), number, total)
    return pollers
