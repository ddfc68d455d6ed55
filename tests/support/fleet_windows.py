"""The function of a simulated fleet's mapping with tumbling windows: its state is the list of the records it was called with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from tests.support.virtual import EPOCH

if TYPE_CHECKING:
    from tests.support.fleet import Begun, Fleet


@dataclass
class Windows:
    """Whether what a call is given fits what calls gave back: a state must forget no record, and hold none twice."""

    fleet: Fleet
    closed: dict[int, Begun] = field(default_factory=dict)
    """By record the final call that succeeded with it."""

    def begins(self, begun: Begun, event: dict[str, Any]) -> None:
        seen: list[int] = event["state"].get("seen", [])
        start, end = (datetime.fromisoformat(event["window"][which]).timestamp() - EPOCH for which in ("start", "end"))
        inside = [number for number in self.fleet.last[begun.shard] if start <= self.fleet.lines[number - 1].at < end]
        told = f"{begun.process.name} calls {begun.shard} with {begun.records} and {seen}"
        if event["isFinalInvokeForWindow"] == bool(begun.records) or not {*begun.records, *seen} <= {*inside}:
            self.fleet.accuse(f"{told}, which are not all of one window")
        if len({*begun.records, *seen}) < len(begun.records) + len(seen):
            self.fleet.accuse(f"{told}: a record twice")
        before = min(begun.records, default=len(self.fleet.lines) + 1)
        lost = [
            one
            for one in inside
            if one < before and one in self.fleet.acknowledged and one not in seen and one not in self.closed
        ]
        if lost:
            self.fleet.accuse(f"{told}, but not {lost}")

    def answered(self, begun: Begun, event: dict[str, Any]) -> bytes:
        """What a call that succeeded gives back."""
        seen: list[int] = event["state"].get("seen", [])
        if not event["isFinalInvokeForWindow"]:
            return orjson.dumps({"state": {"seen": [*seen, *begun.records]}})
        for number in seen:
            if number in self.closed:
                self.fleet.repeats.append((number, self.closed[number], begun))
            self.closed.setdefault(number, begun)
        return b"null"
