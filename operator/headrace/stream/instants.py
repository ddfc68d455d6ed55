"""Times as AWS writes them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def instant(epoch_seconds: float) -> str:
    """A time as AWS writes it: UTC, milliseconds, Z."""
    return moment(epoch_seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def whole_instant(epoch_seconds: int) -> str:
    """A time that has whole seconds, without their fraction: a window's bounds."""
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(epoch_seconds: float) -> datetime:
    """The time in UTC, to the millisecond."""
    return datetime.fromtimestamp(round(epoch_seconds * 1000) / 1000, UTC)
