"""What the operator knows of each mapping, as gauges: who watches them learns of shards that no poller tells of.

Before this: `reconcile.py`, which feeds them with every look.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from headrace.control.shards import Unowned, unowned

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.cluster import Body
    from headrace.control.observe import Observed
    from headrace.liveness import Key

_MAPPING = ("namespace", "mapping")


@dataclass(frozen=True, slots=True)
class _View:
    enabled: bool
    pollers: int
    shards: dict[str, int] = field(default_factory=dict)
    """A queue has none."""
    held: dict[str, int] = field(default_factory=dict)
    unowned: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class FleetMetrics(Collector):
    """The last look at every mapping. An operator that leads no more has to `clear` it: another one tells then."""

    _views: dict[Key, _View] = field(default_factory=dict)

    def saw(self, observed: Observed, status: Body, *, enabled: bool) -> None:
        """Takes in a look and the status that came of it; `enabled` is what the spec asks for."""
        view = _View(enabled, status["pollers"])
        if status["shards"] is not None:
            free = unowned(observed) if enabled else Unowned(0, ())
            counts = {state: status["shards"][state] for state in ("total", "assigned", "blocked")}
            held = {beat.identity: beat.shards_held for beat in observed.heartbeats}
            view = replace(view, shards=counts | {"unowned": free.count}, held=held, unowned=free.names)
        self._views[observed.ref.key] = view

    def forget(self, key: Key) -> None:
        """The mapping is gone."""
        self._views.pop(key, None)

    def clear(self) -> None:
        """Forgets everything."""
        self._views.clear()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The gauges; what is 0 for every shard but a few is there for those few only."""
        enabled = GaugeMetricFamily("headrace_mapping_enabled", "1 while a mapping is to run, else 0.", labels=_MAPPING)
        pollers = GaugeMetricFamily("headrace_pollers", "Pollers of a mapping that are alive.", labels=_MAPPING)
        shards = GaugeMetricFamily(
            "headrace_shards",
            "Shards of a mapping: in total, assigned to a poller, blocked, readable and without a poller.",
            labels=(*_MAPPING, "state"),
        )
        held = GaugeMetricFamily("headrace_poller_shards", "Shards that a poller holds.", labels=(*_MAPPING, "poller"))
        nobody = GaugeMetricFamily(
            "headrace_shard_unowned",
            "1 for a shard that could be read and no poller holds; with a checkpoint table for some of them.",
            labels=(*_MAPPING, "shard"),
        )
        for key, view in self._views.items():
            enabled.add_metric(key, view.enabled)
            pollers.add_metric(key, view.pollers)
            for state, number in view.shards.items():
                shards.add_metric((*key, state), number)
            for poller, number in view.held.items():
                held.add_metric((*key, poller), number)
            for shard in view.unowned:
                nobody.add_metric((*key, shard), 1)
        return enabled, pollers, shards, held, nobody
