"""Objects as rows of a DynamoDB table. Pure; `dynamodb.py` reads and writes them.

A row has the partition key `mapping` and the sort key `object`, both texts; `body`, the object as JSON without what
every object of its mapping says alike, so that most leases stay below 1 KB and cost one write unit; `version`, a number
that begins anywhere and that every write raises, so that a row made anew is never a version of the one that was there;
and `expires`, epoch seconds from which the table may drop it.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel, ConfigDict

from headrace.resources import LABEL_SHARD_LEASE, SHARD_LEASE
from headrace.spec_base import Text  # noqa: TC001 - pydantic reads the annotations
from headrace.spec_status import ShardLease, WindowState

if TYPE_CHECKING:
    from headrace.cluster import Body
    from headrace.resources import Kind, MappingRef

Item = dict[str, Any]

BUCKETS = 8
"""Partition keys of one mapping: a partition takes 1,000 writes of 1 KB a second, and every shard may write once."""
LIFE = 400 * 86_400
"""Seconds from a row's last write to its end: more than any stream keeps a record, so that no checkpoint is missed."""
RENEWED_AFTER = 30 * 86_400
"""Seconds after which a row that is read and that nobody writes gets its whole life again."""


class _Metadata(BaseModel):
    """What the store reads of an object's metadata."""

    model_config = ConfigDict(extra="ignore")

    name: Text
    uid: Text
    labels: dict[str, str] | None = None


def partitions(uid: str) -> list[str]:
    """The partition keys of a mapping."""
    return [f"{uid}/{number}" for number in range(BUCKETS)]


def key(uid: str, kind: Kind, name: str) -> Item:
    """Where an object lies."""
    partition = partitions(uid)[zlib.crc32(name.encode()) % BUCKETS]
    return {"mapping": {"S": partition}, "object": {"S": f"{kind.plural}/{name}"}}


def prefix(kind: Kind, selector: str) -> str:
    """What the sort keys of a mapping's objects of a kind begin with; of one ShardLease's, where a label names one."""
    labels = dict(part.split("=", 1) for part in selector.split(",") if part)
    lease = labels.get(LABEL_SHARD_LEASE)
    return f"{kind.plural}/{lease}-" if lease is not None else f"{kind.plural}/"


def row(mapping: MappingRef, kind: Kind, body: Body, version: int, now: float) -> Item:
    """An object that is written now, in epoch seconds, as a version of its own."""
    alike, name = _alike(mapping, kind), body["metadata"]["name"]
    metadata = _without(
        body["metadata"], alike["metadata"] | {"resourceVersion": body["metadata"].get("resourceVersion")}
    )
    own = _without(body, alike) | {"metadata": metadata}
    return key(mapping.uid, kind, name) | {
        "version": {"N": str(version)},
        "body": {"S": orjson.dumps(own).decode()},
        "expires": _end(now),
    }


def body_of(mapping: MappingRef, kind: Kind, item: Item) -> Body:
    """The object in a row; the row's version is the object's. Raises ValueError when there is none to be made out."""
    alike = _alike(mapping, kind)
    try:
        own: Body = orjson.loads(item["body"]["S"])
        metadata = alike["metadata"] | own["metadata"] | {"resourceVersion": str(version_of(item))}
        body: Body = alike | own | {"metadata": metadata}
        _check(kind, body, item["object"]["S"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no object: {type(error).__name__}") from error
    return body


def _check(kind: Kind, body: Body, place: str) -> None:
    """Refuses what an API server would have, by the models that its schemas are made of; raises what they raise.

    What a later version adds is none of ours to judge: properties that are not known, and states of a shard.
    """
    if f"{kind.plural}/{_Metadata.model_validate(body['metadata']).name}" != place:
        raise ValueError("the name is that of another row")
    if kind != SHARD_LEASE:
        WindowState.model_validate(body, extra="ignore")
        return
    status = {name: value for name, value in (body.get("status") or {}).items() if name != "state"}
    ShardLease.model_validate(body | {"status": status}, extra="ignore")
    if not isinstance(body["spec"].get("streamCreatedAt") or "", str):
        raise TypeError("a time is a text")


def _alike(mapping: MappingRef, kind: Kind) -> Body:
    """What all objects of a kind of one mapping say, unless somebody gave one labels of its own."""
    metadata = {name: value for name, value in mapping.metadata("").items() if name != "name"}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def _without(own: Body, alike: Body) -> Body:
    return {name: value for name, value in own.items() if name not in alike or value != alike[name]}


def version_of(item: Item) -> int:
    """A row's version."""
    return int(item["version"]["N"])


def name_of(item: Item) -> str:
    """A row's keys, as a user finds it by them."""
    return f"{item['mapping']['S']}, {item['object']['S']}"


def is_aged(item: Item, now: float) -> bool:
    """Whether a row is to get its whole life again."""
    return float(item.get("expires", {}).get("N", 0)) < now + LIFE - RENEWED_AFTER


def renewed(item: Item, now: float) -> Item:
    """The same row, the same version, with its whole life."""
    return item | {"expires": _end(now)}


def _end(now: float) -> dict[str, str]:
    return {"N": str(int(now) + LIFE)}
