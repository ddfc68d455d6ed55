"""Who of several operators works: the rule of the Lease they share. Pure. After this: `elector.py`.

A record counts until its term has passed, on the observer's own monotonic clock, without a change; no wall clocks are
compared. A leader counts from the moment its last renewal was sent, and gives up well before the others may take over.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from math import ceil
from typing import TYPE_CHECKING, Any

from headrace.resources import LEASE

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_TERM = 60.0
"""A Lease that was edited to promise more keeps nobody away for longer."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds: what a renewal is worth to others, to the leader itself, and how often either side tries."""

    duration: float = 15.0
    deadline: float = 10.0
    retry: float = 2.0


@dataclass(frozen=True, slots=True)
class Election:
    """Which Lease decides, and this operator's own name in it, which no other process ever has."""

    namespace: str
    lease: str
    identity: str
    terms: Terms = Terms()

    @property
    def metadata(self) -> dict[str, Any]:
        """The Lease's."""
        return {"name": self.lease, "namespace": self.namespace}


class Move(Enum):
    """What to do now."""

    ACQUIRE = auto()
    """Write the own name into the Lease."""
    WAIT = auto()
    """Somebody else leads."""
    RENEW = auto()
    """Write the Lease once more."""
    LOST = auto()
    """Stop working at once."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the Lease says; `holder` is empty when it was released, `term` in seconds, None when it says none."""

    holder: str
    renewed: str
    term: float | None


@dataclass(frozen=True, slots=True)
class Seen:
    """A record, and the moment of the own clock at which it was first seen so."""

    record: Record | None
    since: float


def record_of(lease: Mapping[str, Any]) -> Record:
    """The record in a Lease."""
    spec = lease.get("spec") or {}
    seconds = spec.get("leaseDurationSeconds")
    return Record(spec.get("holderIdentity") or "", str(spec.get("renewTime")), float(seconds) if seconds else None)


def see(seen: Seen | None, record: Record | None, now: float) -> Seen:
    """Takes a look at the Lease in; None: it is not there.

    A Lease that vanishes is no release: its holder may not know it yet, so what it promised last runs out first.
    """
    if seen is None or (record is not None and record != seen.record):
        return Seen(record, now)
    return seen


def decide(election: Election, seen: Seen, renewed: float | None, now: float) -> Move:
    """The next move; `renewed` is the moment the last successful renewal was sent, None for who does not lead."""
    record = seen.record
    holder = record.holder if record is not None else ""
    if renewed is not None:
        return Move.RENEW if holder == election.identity and now < renewed + election.terms.deadline else Move.LOST
    if record is None or holder in {"", election.identity} or now >= seen.since + _term(record, election.terms):
        return Move.ACQUIRE
    return Move.WAIT


def _term(record: Record, terms: Terms) -> float:
    return terms.duration if record.term is None else min(record.term, LONGEST_TERM)


def acquired(lease: Mapping[str, Any] | None, election: Election, now: str) -> dict[str, Any]:
    """The Lease as a new leader writes it over what was read, None: nothing; `now` in RFC 3339 with microseconds."""
    before = (lease.get("spec") or {}) if lease is not None else {}
    another = before.get("holderIdentity") != election.identity
    return {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.kind,
        "metadata": lease["metadata"] if lease is not None else election.metadata,
        "spec": {
            "holderIdentity": election.identity,
            "leaseDurationSeconds": ceil(election.terms.duration),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": (before.get("leaseTransitions") or 0) + (lease is not None and another),
        },
    }


def renewed(lease: Mapping[str, Any], now: str) -> dict[str, Any]:
    """The Lease as its leader writes it once more."""
    return {**lease, "spec": {**lease["spec"], "renewTime": now}}


def released(lease: Mapping[str, Any], now: str) -> dict[str, Any]:
    """The Lease without a holder: the next one need not wait."""
    spec = {name: value for name, value in lease["spec"].items() if name != "holderIdentity"}
    return {**lease, "spec": {**spec, "renewTime": now}}
