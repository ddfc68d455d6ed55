"""Times as AWS writes them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def instant(epoch_seconds: float) -> str:
    """A time as AWS writes it: UTC, milliseconds, Z."""
    return moment(epoch_seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(epoch_seconds: float) -> datetime:
    """The time in UTC, to the millisecond."""
    return datetime.fromtimestamp(round(epoch_seconds * 1000) / 1000, UTC)
