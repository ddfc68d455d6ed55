"""Tumbling windows (contract B.7): which window a batch belongs to, when one closes, what its calls carry. Pure.

A window opens with the first call that gives back a state, and closes with a call of its own that has no records.

Before this: `batching.py`, which never mixes windows. After this: `retry.py` keeps the state over splits and retries.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from headrace.records import GivenUp, Head, Window
from headrace.stream.encodings import LAMBDA_EVENT, Encoding
from headrace.stream.instants import whole_instant

if TYPE_CHECKING:
    from headrace.records import Batch, Record

STATE_LIMIT = 1024 * 1024
"""The largest state in bytes of JSON with which a window goes on; a larger one ends it early."""
IDLE_GRACE = 5.0
"""Seconds after its end at which a window closes though no later record shows it; Lambda takes up to two minutes."""
ENVELOPE_BYTES = 1024
"""What the members of a window's event take beside its records and its state, at most."""


class Tumbling:
    """The windows of one lane, `width` seconds long (0: none), of which one may be open."""

    def __init__(self, width: int, window: Window | None = None) -> None:
        self._width = width
        self.open = window
        self._tip_at = float("-inf")

    def read_to_tip(self, began: float) -> None:
        """A read that began at this time found nothing more."""
        self._tip_at = began

    def of(self, record: Record) -> Window | None:
        """The window that a record goes to: a late one goes to that which is open."""
        if self.open is not None and record.arrival < self.open.end:
            return self.open
        if not self._width:
            return None
        start = int(record.arrival // self._width) * self._width
        return Window(start, start + self._width, record.sequence_number)

    def end_of(self, record: Record) -> float:
        """When the window of a record ends; infinity without windows."""
        window = self.of(record)
        return float("inf") if window is None else float(window.end)

    @property
    def open_bytes(self) -> int:
        """What the open window adds to an event."""
        if not self._width and self.open is None:
            return 0
        return ENVELOPE_BYTES + len(self.open.state or b"" if self.open is not None else b"")

    def closing(self, following: Record | None, *, ended: bool) -> Window | None:
        """The open window, if it is to be closed now, before the `following` record that waits (None: none does).

        `ended` says that the shard will give nothing more.
        """
        window = self.open
        if window is None:
            return None
        if window.final or not self._width:
            return replace(window, final=True)
        over = following.arrival >= window.end if following is not None else ended or self._idle(window)
        return replace(window, final=True) if over else None

    def _idle(self, window: Window) -> bool:
        return self._tip_at >= window.end + IDLE_GRACE


def grown(window: Window, state: bytes | None) -> Window:
    """The window after a call gave back a state; one that is too large is what its early last call is made with."""
    if state is None:
        return window
    early = len(state) > STATE_LIMIT
    return replace(window, state=state, final=early, early=early)


def anew(window: Window, batch: Batch) -> Window:
    """What records of a window that was closed go on with: one with the same bounds and no state."""
    return Window(window.start, window.end, batch[0].sequence_number)


def final_head(window: Window, attempts: int, given_up: GivenUp | None = None) -> Head:
    """How a lane's checkpoint names the final call."""
    return Head(window.first, window.first, 0, attempts, given_up)


def encoding(window: Window | None, shard_id: str, stream_arn: str, records: Encoding = LAMBDA_EVENT) -> Encoding:
    """The body of a call of a window; without one the mapping's own."""
    if window is None:
        return records
    members = orjson.dumps(
        {
            "window": bounds(window),
            "state": orjson.Fragment(window.state or b"{}"),
            "shardId": shard_id,
            "eventSourceARN": stream_arn,
            "isFinalInvokeForWindow": window.final,
            "isWindowTerminatedEarly": window.early,
        }
    )
    return replace(LAMBDA_EVENT, closing=b"]," + members[1:])


def bounds(window: Window) -> dict[str, str]:
    """When a window starts and ends, as events and failure records write it."""
    return {"start": whole_instant(window.start), "end": whole_instant(window.end)}
