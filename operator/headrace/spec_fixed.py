"""What cannot change once a mapping is made (contract A.1, C): the checkpoints were written for it. Pure.

Each property is compared as CEL can: without loops but one, and by what it means, so that an update may spell out a
default or leave it out again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from headrace.spec_rule import has

if TYPE_CHECKING:
    from headrace.cluster import Body
    from headrace.spec import EventSourceMappingSpec

FIXED_SENTENCE = "cannot be changed; delete the mapping and make it anew"


@dataclass(frozen=True, slots=True)
class Fixed:
    """A property below `spec`; `default` is what its absence means, None where nothing else means that."""

    path: str
    default: str | None = None

    @property
    def message(self) -> str:
        """The sentence of the API server."""
        return f"spec.{self.path}: {FIXED_SENTENCE}"

    @property
    def cel(self) -> str:
        """Holds when the property means what it meant, `oldSelf` being the spec before."""
        new, old = f"({has(self.path)})", f"({_before(has(self.path))})"
        same = f"self.{self.path} == oldSelf.{self.path}"
        if self.default is None:
            return f"{new} == {old} && (!{new} || {same})"
        new_default = f"(!{new} || self.{self.path} == '{self.default}')"
        old_default = f"(!{old} || oldSelf.{self.path} == '{self.default}')"
        return f"({new} && {old} && {same}) || ({new_default} && {old_default})"


def _before(cel: str) -> str:
    return cel.replace("self.", "oldSelf.")


FIXED = (
    Fixed("eventSourceArn"),
    Fixed("selfManagedEventSource"),
    Fixed("startingPosition", "TRIM_HORIZON"),
    Fixed("startingPositionTimestamp"),
    Fixed("topics"),
    Fixed("queues"),
    Fixed("amazonManagedKafkaEventSourceConfig.consumerGroupId"),
    Fixed("selfManagedKafkaEventSourceConfig.consumerGroupId"),
    Fixed("selfManagedKafkaEventSourceConfig.consumptionMode", "Stream"),
    Fixed("documentDBEventSourceConfig.databaseName"),
    Fixed("documentDBEventSourceConfig.collectionName"),
    Fixed("poller.checkpointTable"),
)


# A broker's virtual host is one of its access configurations (contract G.3); none means "/".

_HOSTS = "sourceAccessConfigurations"
_IS_HOST = "type == 'VIRTUAL_HOST'"


def _hosts_kept(here: str, there: str) -> str:
    """CEL: every virtual host of one list is in the other."""
    known = (
        f"has({there}.{_HOSTS}) && {there}.{_HOSTS}.exists(d, d.{_IS_HOST}"
        " && has(c.uri) && has(d.uri) && c.uri == d.uri)"
    )
    none = f"(!has({there}.{_HOSTS}) || !{there}.{_HOSTS}.exists(d, d.{_IS_HOST}))"
    default = f"has(c.uri) && c.uri == '/' && {none}"
    return f"(!has({here}.{_HOSTS}) || !{here}.{_HOSTS}.exists(c, c.{_IS_HOST} && !(({known}) || ({default}))))"


VIRTUAL_HOST_MESSAGE = f"spec.{_HOSTS}: VIRTUAL_HOST {FIXED_SENTENCE}"
VIRTUAL_HOST_CEL = f"{_hosts_kept('self', 'oldSelf')} && {_hosts_kept('oldSelf', 'self')}"


def written(spec: EventSourceMappingSpec) -> Body:
    """A spec as its author has written it, in one form."""
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)


def last_valid(text: str | None) -> Body | None:
    """The spec in a manifest that the operator has kept; None where there is none, or it was edited by hand."""
    try:
        spec = yaml.safe_load(text or "")["spec"]
    except (yaml.YAMLError, TypeError, KeyError):
        return None
    return spec if isinstance(spec, dict) else None


def changed(before: Body, now: Body) -> tuple[str, ...]:
    """A sentence for each fixed property of a spec that means something else than before.

    For servers that know no rules about changes; both are specs as the API has them.
    """
    told = [one.message for one in FIXED if _meaning(before, one) != _meaning(now, one)]
    return (*told, *([VIRTUAL_HOST_MESSAGE] if _hosts(before) != _hosts(now) else []))


def _meaning(spec: Body, fixed: Fixed) -> Any:
    value: Any = spec
    for step in fixed.path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return fixed.default if value is None else value


def _hosts(spec: Body) -> frozenset[Any]:
    configured = [one for one in spec.get(_HOSTS) or () if one.get("type") == "VIRTUAL_HOST"]
    return frozenset(one.get("uri") for one in configured) or frozenset({"/"})


def transitions() -> tuple[tuple[str, str], ...]:
    """Every rule about a change of a mapping's spec: CEL, message."""
    return (*((one.cel, one.message) for one in FIXED), (VIRTUAL_HOST_CEL, VIRTUAL_HOST_MESSAGE))


# A ShardLease says for good which shard of which mapping it is. Its parents and the time of its stream are told anew
# when a stream of the same name is another.

LEASE_FIXED = ("mappingName", "mappingUid", "eventSourceArn", "shardId")


def lease_transitions() -> tuple[tuple[str, str], ...]:
    """Every rule about a change of a ShardLease's spec: CEL, message."""
    sentence = "cannot be changed; delete the ShardLease, and its shard starts anew"
    return tuple((f"self.{name} == oldSelf.{name}", f"spec.{name}: {sentence}") for name in LEASE_FIXED)
