"""One poller among those of its mapping: its heartbeat, what it sees of the others, and its fence. A shell.

The rules are in `stream/leases.py`. Every request of one beat follows the other: a renewal, then a read of all
heartbeats, so that nothing is judged on what was read before our own last word.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from headrace import heartbeat
from headrace.cluster import ClusterError, Conflict, ObjectNotFound
from headrace.ending import FAREWELL
from headrace.errors import StoreError
from headrace.heartbeat import RENEW_INTERVAL, TERM, Heartbeat
from headrace.records import Holder
from headrace.resources import LEASE
from headrace.stream import leases
from headrace.stream.leases import Beat, Claim, Moves, View
from headrace.stream.queues.claims import Claims
from headrace.stream.queues.shares import UNREADABLE, Peer, Share
from headrace.stream.waiting import first

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from headrace.cluster import Body, Cluster
    from headrace.resources import MappingRef
    from headrace.stream.membership import Fence

log = structlog.get_logger()

PATIENCE, LEAST_PATIENCE = 2.0, 0.25
"""Seconds that a renewal, or a read, has at most, and at least."""
REGAIN_PATIENCE = 4.0
"""Seconds for a try to win the leases anew; the next one goes on where it ended."""
READ_INTERVAL = 0.5
"""Seconds between two reads of the heartbeats where there are others: what bounds a planned hand-over."""
EARLY = 0.05
"""Seconds that a renewal may come before its time, so that no read is waited for when it is due."""
READ_PER_POLLER = 0.02
"""What every poller adds to that, so that many of them do not burden the API server."""
BURIED_AFTER = 60.0
"""Seconds without a renewal after which the heartbeat of a poller that is gone is deleted."""


class PollerMembership:
    """Membership of a mapping's pollers by heartbeat Leases; `run` keeps it up.

    `report` gives what the heartbeat tells the operator. `regain` is called with the new life after a gap: it writes
    every lease anew, raises StoreError when it could not, and gives the shards that were lost, and who has them now.
    """

    def __init__(
        self,
        cluster: Cluster,
        mapping: MappingRef,
        identity: str,
        report: Callable[[], Heartbeat],
        regain: Callable[[Holder], Awaitable[Mapping[str, str | None]]],
    ) -> None:
        self._cluster = cluster
        self._mapping = mapping
        self._report = report
        self._regain = regain
        self.holder = Holder(identity, "")
        self.news = asyncio.Event()
        self.on_lost: Callable[[Mapping[str, str | None]], None] = lambda _: None
        self.leaving = False
        self._lives: set[str] = set()
        self._view = View()
        self._asks: str | None = None
        self._changes = 0
        self._lease: Body | None = None
        self._renewed = self._due = float("-inf")
        self._certain = float("-inf")
        """When our last renewal that was answered was sent, or this life begun: from then on others may count."""
        self._unsent = False
        """Whether this life has sent no renewal yet, so that nobody can know of it."""
        self._lapsed = True
        self._superseded = False
        self._contested = False
        """Whether a lease shows that another process may have taken our name since we last renewed."""
        self._former: frozenset[str] | None = None
        """The lives of our name that leases named when it was last ours for certain: they are over."""
        self._unreadable: frozenset[str] = frozenset()
        """The heartbeats that could not be read when they were last looked at."""
        self._told = asyncio.Event()
        self._claims = Claims(Share(identity))
        self._log = log.bind(mapping="/".join(mapping.key))

    # ---- what the data plane asks

    @property
    def fence(self) -> Fence:
        """Closed while our leases are in doubt."""
        return self

    @property
    def closed(self) -> bool:
        """Whether our leases are in doubt: nothing may start."""
        return self._lapsed or self._contested or leases.in_doubt(self._certain, time.monotonic())

    @property
    def alive(self) -> bool:
        """Whether the heartbeat was renewed within its term."""
        return time.monotonic() - self._renewed < TERM

    def decide(self, claims: Sequence[Claim], running: Collection[str], giving: Collection[str]) -> Moves:
        """What to start and to leave; what is asked of another goes out with the next heartbeat, at once."""
        holders = {claim.holder for claim in claims if claim.holder is not None}
        if self.closed or self._is_contested(holders):
            return Moves(settled=False)
        self._view = leases.noticed(self._view, holders, time.monotonic())
        moves = leases.decide(self.holder, self._view, claims, running, giving, self._asks, draining=self.leaving)
        if moves.ask != self._asks:
            self._asks = moves.ask
            self._told.set()
        return moves

    def _is_contested(self, holders: Collection[Holder]) -> bool:
        """Whether a new life of our name is there that is not ours: then the name is looked at before anything else."""
        lives = frozenset(one.incarnation for one in holders if one.identity == self.holder.identity) - self._lives
        if self._former is None:
            self._former = lives
        self._contested = not lives <= self._former
        if self._contested:
            self._told.set()
        return self._contested

    def is_free(self, holder: Holder | None) -> bool:
        """Whether a shard held like this may be taken."""
        return not self.closed and leases.is_free(self.holder, self._view, holder)

    def falls_to_us(self, shard_id: str) -> bool:
        """Whether this poller is the one to make a shard's missing lease."""
        return leases.falls_to(self.holder, self._view, shard_id)

    def may_run(self, holder: Holder | None) -> bool:
        """Whether the lease of a shard that runs here still names this poller, in whichever of its lives."""
        return holder is not None and holder.identity == self.holder.identity

    def tell_change(self) -> None:
        """Has the others read the leases as soon as they see our next heartbeat, which goes out at once."""
        self._changes += 1
        self._told.set()

    def limit(self, total: int) -> int:
        """How many of `total` calls may be in flight here now, a new total is told at once; 0 while in doubt."""
        if self._claims.ask(total):
            self._told.set()
        return 0 if self.closed else self._claims.share.usable

    def report_calls(self, in_flight: int) -> None:
        """So many calls of a queue are in flight; once they are few enough, the claim is lowered at once."""
        if self._claims.report_calls(in_flight):
            self._told.set()

    def report_backlog(self, backlog: int) -> None:
        """About so many messages of a queue could be received; the heartbeat tells the most of the last minutes."""
        self._claims.report_backlog(backlog, time.monotonic())

    def leave(self) -> None:
        """Tells the others that this poller is about to end, and takes nothing any more."""
        self.leaving = True
        self._asks = None
        self._told.set()

    # ---- the heartbeat

    async def run(self) -> None:
        """Renews and reads; an API that does not answer moves nothing, and closes the fence in time."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                if began >= self._due - EARLY or self._told.is_set():
                    await self._beat()
                    self._due = began + RENEW_INTERVAL
                async with asyncio.timeout(self._patience()):
                    await self._read()
            except (ClusterError, StoreError, TimeoutError) as error:
                self._view = leases.missed(self._view)
                failures += 1
                if failures == 1:
                    self._log.warning("the heartbeat could not be kept up; trying on", error=str(error) or "timed out")
                await asyncio.sleep(max(0.0, began + READ_INTERVAL - time.monotonic()))
            else:
                if failures:
                    self._log.info("the heartbeat is kept up again", failures=failures)
                failures = 0
            await first(self._pause(began), self._told)

    def _pause(self, began: float) -> float:
        """Seconds to the next beat, or to the moment at which a poller may be found dead."""
        now = time.monotonic()
        others = len(self._view.beats) - 1
        reading = READ_INTERVAL + READ_PER_POLLER * others if others > 0 else RENEW_INTERVAL
        return max(0.0, min(began + reading, self._view.next_expiry(), self._due) - now)

    def _patience(self) -> float:
        """Seconds for a request: what is left before the leases are in doubt, but for the time of another.

        So a read or a renewal that hangs, and a renewal after it, leave time for a third.
        """
        left = self._certain + TERM - leases.MARGIN - time.monotonic()
        return min(PATIENCE, max(LEAST_PATIENCE, left - LEAST_PATIENCE))

    async def _beat(self) -> None:
        """One renewal; after a gap a new life begins with it, and every lease is won anew before the fence opens."""
        self._told.clear()
        self._due = float("-inf")  # until it has succeeded
        sent = time.monotonic()
        if self._unsent:
            self._certain = sent
        elif leases.in_doubt(self._certain, sent):
            self._begin_life(sent)
        if not await self._renew():
            return
        if leases.in_doubt(self._certain, time.monotonic()):
            sent = time.monotonic()  # the answer came too late: others may have acted on our silence
            self._begin_life(sent)
            if not await self._renew():
                return
        self._certain = self._renewed = sent
        self._claims.written()
        if self._contested:
            self._contested, self._former = False, None
            self.news.set()
        if self._lapsed:
            async with asyncio.timeout(REGAIN_PATIENCE):
                self.on_lost(await self._regain(self.holder))
            self._lapsed = False
            self.news.set()

    def _begin_life(self, now: float) -> None:
        """What was seen before counts for nothing: an outage may have been everybody's."""
        self._lapsed = self._unsent = True
        self._certain = now
        self._claims.lapse()
        self._view = leases.missed(self._view)
        self.holder = Holder(self.holder.identity, uuid.uuid4().hex[:12])
        self._lives.add(self.holder.incarnation)

    async def _renew(self) -> bool:
        """Writes the heartbeat by compare-and-swap; False while another process uses our name."""
        async with asyncio.timeout(self._patience()):
            try:
                written = await self._write()
            except (Conflict, ObjectNotFound):  # somebody has changed it, or taken it away: who is it?
                written = await self._write()
        if not written:
            self._step_aside()
            return False
        if self._superseded:
            self._superseded = False
            self._log.info("no other process uses this poller's name any more", identity=self.holder.identity)
        return True

    async def _write(self) -> bool:
        wanted = heartbeat.lease(self._mapping, self._heartbeat(), _now())
        known, self._lease = self._lease, None  # forgotten unless this write succeeds
        known = known or await self._cluster.find(LEASE, self._mapping.namespace, wanted["metadata"]["name"])
        if known is not None and not self._may_replace(beat_of(known).holder):
            return False
        self._unsent = False
        if known is None:
            self._lease = await self._cluster.create(LEASE, wanted)
        else:
            wanted["metadata"]["resourceVersion"] = known["metadata"]["resourceVersion"]
            self._lease = await self._cluster.replace(LEASE, wanted)
        return True

    def _may_replace(self, there: Holder) -> bool:
        """A process that starts takes its name over; later it steps aside for another, until that ends.

        What names no life is nobody's, be it ours or another's that was edited by hand.
        """
        begun = self._renewed > float("-inf")
        return not begun or there.incarnation in {"", *self._lives} or self._view.expired(there)

    def _step_aside(self) -> None:
        """Begins one new life, that nobody hears of before the name is free: what is seen of the other counts on."""
        if not self._unsent:
            self._begin_life(time.monotonic())
        if not self._superseded:
            self._superseded = True
            self._log.error(
                "another process uses this poller's name; each needs an --identity of its own",
                identity=self.holder.identity,
            )

    def _heartbeat(self) -> Heartbeat:
        return replace(
            self._report(),
            incarnation=self.holder.incarnation,
            draining=self.leaving,
            asks=self._asks,
            changes=self._changes,
            claims=self._claims.compose(leaving=self.leaving),
            backlog=self._claims.backlog(time.monotonic()),
        )

    async def _read(self) -> None:
        """Reads all heartbeats; whatever in them bears on who holds what is news."""
        before = self._picture()
        began = time.monotonic()
        bodies = await self._cluster.select(LEASE, self._mapping.namespace, self._mapping.selector)
        bodies = [body for body in bodies if self._mapping.owns(body)]
        self._tell_unreadable(bodies)
        self._view = leases.observe(self._view, [beat_of(body) for body in bodies], began, time.monotonic())
        if self._picture() != before:
            self.news.set()
        self._share_calls()
        for body in bodies:
            if self._view.expired(beat_of(body).holder, BURIED_AFTER):
                await self._cluster.delete(LEASE, body)

    def _share_calls(self) -> None:
        """What the others claim of a queue's calls; whoever is found dead claims nothing."""
        others = [beat for beat in self._view.beats if beat.holder.identity != self.holder.identity]
        living = [beat for beat in others if not self._view.expired(beat.holder)]
        dead = {beat.holder.identity for beat in others} - {beat.holder.identity for beat in living}
        peers = [Peer(beat.holder.identity, beat.claims, beat.draining) for beat in living]
        due = self._claims.read(peers, dead, time.monotonic(), leaving=self.leaving)
        if due and not self._superseded:
            self._told.set()

    def _tell_unreadable(self, bodies: Sequence[Body]) -> None:
        """Once for each: its poller counts as alive while it renews, and heals it with that."""
        unreadable = frozenset(body["metadata"]["name"] for body in bodies if heartbeat.report_of(body) is None)
        for name in unreadable - self._unreadable:
            self._log.warning("the report on a heartbeat cannot be read; its poller writes it anew", lease=name)
        self._unreadable = unreadable

    def _picture(self) -> tuple[object, ...]:
        others = (beat for beat in self._view.living() if beat.holder.identity != self.holder.identity)
        told = frozenset((beat.holder, beat.draining, beat.asks, beat.changes) for beat in others)
        return told, self._view.dead()

    async def aclose(self) -> None:
        """Says goodbye, once the leases are given back."""
        name = heartbeat.lease_name(self._mapping, self.holder.identity)
        try:
            async with asyncio.timeout(FAREWELL):
                known = await self._cluster.find(LEASE, self._mapping.namespace, name)
                if known is not None and beat_of(known).holder.incarnation in {"", *self._lives}:
                    await self._cluster.delete(LEASE, known)
        except (ClusterError, TimeoutError) as error:
            self._log.warning("the heartbeat could not be ended", error=str(error) or "timed out")


def beat_of(body: Body) -> Beat:
    """What the other pollers read from a heartbeat Lease. One that cannot be read may claim anything."""
    report = heartbeat.report_of(body)
    said = report or heartbeat.heartbeat_of(body)
    holder = Holder(said.identity, said.incarnation)
    claims = report.claims if report is not None else UNREADABLE
    return Beat(holder, heartbeat.renewal_of(body)[0], said.draining, said.asks, said.changes, claims)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
