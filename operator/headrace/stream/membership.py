"""What a mapping's data plane needs to know about its other pollers, and `Alone`, for when there are none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from headrace.stream import ahead
from headrace.stream.leases import Claim, Moves
from headrace.stream.waiting import first

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from headrace.records import Holder

FENCE_INTERVAL = 0.1
"""Seconds between two looks at a closed fence."""


class Fence(Protocol):
    """Keeps a poller whose leases are in doubt from starting anything."""

    @property
    def closed(self) -> bool:
        """Whether no call and no publish may start now."""
        ...


class Membership(Protocol):
    """One poller among those of its mapping."""

    on_lost: Callable[[Mapping[str, str | None]], None]
    """Called with the shards that turn out to be others', and whose, before anything may start again.

    The data plane sets it.
    """
    news: asyncio.Event
    """Set when the leases are to be read and moves to be decided anew; whoever does so clears it first."""

    @property
    def fence(self) -> Fence:
        """What keeps shards that are in doubt from being worked on."""
        ...

    @property
    def leaving(self) -> bool:
        """Whether this poller is about to end, so that what it stops reading is to be given back."""
        ...

    def decide(self, claims: Sequence[Claim], running: Collection[str], giving: Collection[str]) -> Moves:
        """What to start and to leave now; what is to be asked of others is asked. `claims` has just been read."""
        ...

    def is_free(self, holder: Holder | None) -> bool:
        """Whether a shard held like this may be taken."""
        ...

    def falls_to_us(self, shard_id: str) -> bool:
        """Whether this poller is the one to make a shard's missing lease."""
        ...

    def may_run(self, holder: Holder | None) -> bool:
        """Whether a shard that is running here and whose lease shows this holder is still ours."""
        ...

    def tell_change(self) -> None:
        """Has the others read the leases: shards were made, finished or given back."""
        ...

    def limit(self, total: int) -> int:
        """How many of `total` calls at a time, which all pollers of a queue have together, may be this one's now.

        0 while the fence is closed; may be fewer than are in flight: then none begins.
        """
        ...

    def report_calls(self, in_flight: int) -> None:
        """Takes note of the calls of a queue that are in flight."""
        ...

    def report_backlog(self, backlog: int) -> None:
        """Takes note of about how many messages a queue has."""
        ...


@dataclass(slots=True)
class _Open:
    closed: bool = False


class Alone:
    """The only poller: everything that can be read is its own."""

    leaving = False

    def __init__(self) -> None:
        self.fence: Fence = _Open()
        self.news = asyncio.Event()
        self.on_lost: Callable[[Mapping[str, str | None]], None] = lambda _: None

    def decide(self, claims: Sequence[Claim], running: Collection[str], _giving: Collection[str]) -> Moves:
        """Takes whatever is not running yet."""
        return Moves(take=tuple(claim.shard_id for claim in claims if claim.shard_id not in running))

    def is_free(self, _holder: Holder | None) -> bool:
        """Always."""
        return True

    def falls_to_us(self, _shard_id: str) -> bool:
        """Always."""
        return True

    def may_run(self, _holder: Holder | None) -> bool:
        """Always."""
        return True

    def tell_change(self) -> None:
        """Nobody listens."""

    def limit(self, total: int) -> int:
        """All of them."""
        return total

    def report_calls(self, _in_flight: int) -> None:
        """Nobody listens."""

    def report_backlog(self, _backlog: int) -> None:
        """Nobody listens."""


@dataclass(slots=True, eq=False)
class Permit:
    """What the work on one shard may do."""

    fence: Fence = field(default_factory=_Open)
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is to stop: no new call; the calls in flight are finished and stored."""
    given: bool = False
    """Whether it stops for another poller's sake."""
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the shard is known to be another's, whatever is in flight."""
    lost_to: str | None = None
    """Whose, once it is lost; None: nobody's that is known."""
    share: Callable[[], int] = lambda: ahead.MOST
    """Bytes of its records that may wait for the function."""

    def lose(self, holder: str | None) -> None:
        """The shard is another's from now on."""
        self.lost_to = holder
        self.lost.set()

    @property
    def closed(self) -> bool:
        """Whether no call and no publish may start now."""
        return self.lost.is_set() or self.fence.closed

    async def opened(self, room: Callable[[], bool] = lambda: True) -> bool:
        """Waits until something may start and there is room for it; False when the shard is to be left before that.

        Calls of a queue that were put off have none where the share has shrunk, or is won anew after a lapse.
        """
        while self.closed or not room():
            if self.leave.is_set():
                return False
            await first(FENCE_INTERVAL, self.leave)
        return True
