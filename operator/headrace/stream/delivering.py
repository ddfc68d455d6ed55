"""One lane's batches, one after the other, each until all of it is decided. A shell without a rule of its own.

Before this: `lanes.py` and `batching.py`. It goes round between `retry.decide` and `retry.step`: calls the function,
has the answer classified, hands over failure records. After this: `checkpoints.py`.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.errors import DestinationError, Reason
from headrace.records import Head, head_of
from headrace.stream import retry, windows
from headrace.stream.calling import Request, call
from headrace.stream.events import (
    DeliveryFailed,
    DiscardDelivered,
    Observer,
    RecordsDropped,
    Waiting,
)
from headrace.stream.functions import request_id_of
from headrace.stream.report import failure_record
from headrace.stream.waiting import first

if TYPE_CHECKING:
    from headrace.records import Batch, Window
    from headrace.stream.classify import Outcome
    from headrace.stream.destinations import Destination
    from headrace.stream.functions import Function
    from headrace.stream.membership import Permit
    from headrace.stream.retry import Discard, State
    from headrace.stream.settings import Delivery

Note = Callable[["Step"], Awaitable[None]]
STUCK_AFTER = 3
"""Pauses in a row after which a lane counts as stuck."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of a batch came to: `decided` up to a record, or None; the head as it is to be kept over a restart.

    `window` is the tumbling window that is open now. `binding` says that it is to be stored before the lane goes on.
    """

    decided: str | None
    head: Head | None
    pending: Batch
    stuck: bool
    window: Window | None
    binding: bool


@dataclass(frozen=True, slots=True)
class BatchDelivery:
    """Delivers the batches of one shard's lanes, as many at a time as there are lanes."""

    shard_id: str
    delivery: Delivery
    function: Function
    destination: Destination | None
    observer: Observer
    permit: Permit

    async def settle(self, batch: Batch, window: Window | None, lane: int, begun: Head | None, note: Note) -> None:
        """Works on a batch until it is decided, or the stop finds it waiting; every step is noted before the next.

        An empty batch is the final call of its tumbling window. `begun` is what it has been through before a restart.
        """
        policy = self.delivery.policy
        begun = begun or Head("", "", 0, 0)
        state = retry.start(batch, begun.attempts, window, given_up=begun.given_up)
        while not self.permit.leave.is_set() or retry.just_given_up(state):
            if not await self.permit.opened():
                return
            before = state
            state, action = retry.decide(state, time.time(), policy)
            if isinstance(action, retry.Done):
                return
            if isinstance(action, retry.Wait):
                await first(action.until - time.time(), self.permit.leave)
                continue
            event = await self._do(action, lane)
            state = retry.step(state, event, time.time(), policy, random.random())  # noqa: S311 - jitter
            self._tell_wait(state, lane)
            await note(_step(before, state, event))

    async def _do(self, action: retry.Invoke | retry.Publish | retry.Drop, lane: int) -> retry.Event:
        match action:
            case retry.Invoke(batch, attempt, window):
                return retry.Called(await self._invoke(batch, attempt, window, lane))
            case retry.Publish(discard, until):
                return await self._publish(discard, until, lane)
            case retry.Drop(discard):
                self.observer(RecordsDropped(self.shard_id, discard, self.destination is not None, lane))
                return retry.Dropped()

    async def _invoke(self, batch: Batch, attempt: int, window: Window | None, lane: int) -> Outcome:
        delivery = self.delivery
        encoding = windows.encoding(window, self.shard_id, delivery.origin.stream_arn, delivery.limits.encoding)
        request = Request(
            self.shard_id,
            batch,
            encoding.encode(batch),
            self._request_id(batch, window),
            attempt,
            since=window.start if window is not None and not batch else batch[-1].arrival,
            lane=lane,
            wants_state=window is not None and not window.final,
        )
        return await call(request, self.function, delivery, self.observer)

    async def _publish(self, discard: Discard, until: float, lane: int) -> retry.Published | retry.NotPublished:
        if self.destination is None:
            return retry.NotPublished()
        request_id = self._request_id(discard.called, discard.window)
        name = self._request_id(discard.records, discard.window)
        record = failure_record(self.delivery.origin, discard, request_id, name)
        try:
            async with asyncio.timeout(None if until == math.inf else max(0.0, until - time.time())):
                await self.destination.publish(record)
        except TimeoutError:
            late = DestinationError(Reason.UNREACHABLE, "the destination did not answer in time")
            return self._not_published(discard, late, lane)
        except DestinationError as error:
            return self._not_published(discard, error, lane)
        self.observer(DiscardDelivered(self.shard_id, discard, request_id, lane))
        return retry.Published()

    def _not_published(self, discard: Discard, error: DestinationError, lane: int) -> retry.NotPublished:
        self.observer(DeliveryFailed(self.shard_id, discard, error.reason, error.message, lane))
        return retry.NotPublished()

    def _tell_wait(self, state: State, lane: int) -> None:
        seconds = state.not_before - time.time()
        if seconds > 0:
            self.observer(Waiting(self.shard_id, state.head, seconds, state.attempts, lane))

    def _request_id(self, batch: Batch, window: Window | None) -> str:
        """The same for identical batches, also after a restart; another one for every other batch (contract B.4)."""
        head = windows.final_head(window, 0) if window is not None and not batch else head_of(batch, 0)
        name = f"{self.shard_id}:{head.first}:{head.last}:{head.count}"
        return request_id_of(self.delivery.mapping_uid, name)


def _step(before: State, state: State, event: retry.Event) -> Step:
    window = state.window if state.window is not None and state.window.state is not None else None
    decided = state.decided if state.decided != before.decided else None
    settled = isinstance(event, retry.Published | retry.Dropped)
    return Step(decided, _begun(state), state.head, state.setbacks >= STUCK_AFTER, window, settled)


def _begun(state: State) -> Head | None:
    """The head as it is to be kept over a restart, once a call of it has counted."""
    if not state.attempts:
        return None
    spent = (state.attempts, retry.given_up(state))
    if state.window is not None and state.closing:
        return windows.final_head(state.window, *spent)
    return head_of(state.head, *spent)
