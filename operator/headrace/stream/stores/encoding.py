"""A checkpoint's lanes and window as JSON values, the same in every store. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.records import Head, LaneProgress, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def encode_lanes(lanes: Iterable[LaneProgress]) -> list[dict[str, Any]]:
    """One object per lane; what is not there is left out."""
    return [_encode(lane) for lane in lanes]


def decode_lanes(values: Iterable[Mapping[str, Any]]) -> tuple[LaneProgress, ...]:
    """The lanes again."""
    return tuple(
        LaneProgress(
            value["factor"],
            value["index"],
            value.get("sequenceNumber"),
            _head(value.get("head")),
            bool(value.get("open")),
        )
        for value in values
    )


def encode_window(window: Window) -> dict[str, Any]:
    """A tumbling window without its state, which lies in a place of its own."""
    value: dict[str, Any] = {"start": window.start, "end": window.end, "first": window.first}
    return value | {name: True for name in ("final", "early") if getattr(window, name)}


def decode_window(value: Mapping[str, Any], state: bytes) -> Window:
    """The window again."""
    early = bool(value.get("early"))
    return Window(value["start"], value["end"], value["first"], state, bool(value.get("final")), early)


def _encode(lane: LaneProgress) -> dict[str, Any]:
    value: dict[str, Any] = {"factor": lane.factor, "index": lane.index}
    if lane.decided is not None:
        value["sequenceNumber"] = lane.decided
    if lane.open:
        value["open"] = True
    if lane.head is not None:
        head = lane.head
        value["head"] = {"first": head.first, "last": head.last, "count": head.count, "attempts": head.attempts}
    return value


def _head(value: Mapping[str, Any] | None) -> Head | None:
    return Head(value["first"], value["last"], value["count"], value["attempts"]) if value is not None else None
