"""A checkpoint's lanes and window as JSON values, the same in every store. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.records import GivenUp, Head, LaneProgress, Window

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
        value["head"] = _encode_head(lane.head)
    return value


def _encode_head(head: Head) -> dict[str, Any]:
    value: dict[str, Any] = {"first": head.first, "last": head.last, "count": head.count, "attempts": head.attempts}
    if head.given_up is None:
        return value
    told = {
        "at": head.given_up.at,
        "statusCode": head.given_up.status,
        "functionError": head.given_up.function_error,
        "executedVersion": head.given_up.executed_version,
    }
    return value | {"givenUp": {name: each for name, each in told.items() if each is not None}}


def _head(value: Mapping[str, Any] | None) -> Head | None:
    if value is None:
        return None
    return Head(value["first"], value["last"], value["count"], value["attempts"], _given_up(value.get("givenUp")))


def _given_up(value: Mapping[str, Any] | None) -> GivenUp | None:
    if value is None:
        return None
    return GivenUp(value["at"], value.get("statusCode"), value.get("functionError"), value["executedVersion"])
