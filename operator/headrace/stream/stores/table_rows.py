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
from pydantic import BaseModel, ConfigDict, ValidationError

from headrace.resources import LABEL_SHARD_LEASE, SHARD_LEASE
from headrace.spec_base import Text  # noqa: TC001 - pydantic reads the annotations
from headrace.spec_errors import sentences
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

    model_config = ConfigDict(extra="ignore", strict=True)

    name: Text
    uid: Text
    labels: dict[str, str] | None = None


class _Named(BaseModel):
    """An object as far as every kind has it."""

    model_config = ConfigDict(extra="ignore")

    metadata: _Metadata


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
    """The object in a row; the row's version is the object's. Raises ValueError with a sentence on what is wrong."""
    alike = _alike(mapping, kind)
    try:
        version = version_of(item)
    except (KeyError, ValueError):
        raise ValueError("version: must be a whole number") from None
    try:
        own: Body = orjson.loads(item["body"]["S"])
        metadata = alike["metadata"] | own["metadata"] | {"resourceVersion": str(version)}
        body: Body = alike | own | {"metadata": metadata}
    except (KeyError, TypeError, ValueError):  # among them what orjson raises
        raise ValueError("body: must be a text with a JSON object that has metadata") from None
    _check(kind, body)
    if key(mapping.uid, kind, body["metadata"]["name"]) != {one: item[one] for one in ("mapping", "object")}:
        raise ValueError("body.metadata.name: must be that of the row's key, and the row where it belongs")
    return body


def _check(kind: Kind, body: Body) -> None:
    """Refuses what an API server would have, by the models that its schemas are made of; raises ValueError.

    What a later version adds is none of ours to judge: properties that are not known, and states of a shard.
    """
    _validate(_Named, body)
    if kind != SHARD_LEASE:
        _validate(WindowState, body)
    elif isinstance(status := body.get("status"), dict):
        _validate(ShardLease, body | {"status": _without(status, {"state": status.get("state")})})
    else:
        _validate(ShardLease, body)


def _validate(model: type[BaseModel], body: Body) -> None:
    try:
        model.model_validate(body, extra="ignore")
    except ValidationError as error:
        raise ValueError(f"body.{sentences(error, model)[0]}") from None


def _alike(mapping: MappingRef, kind: Kind) -> Body:
    """What all objects of a kind of one mapping say, unless somebody gave one labels of its own."""
    metadata = {name: value for name, value in mapping.metadata("").items() if name != "name"}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def _without(own: Body, alike: Body) -> Body:
    return {name: value for name, value in own.items() if name not in alike or value != alike[name]}


def version_of(item: Item) -> int:
    """A row's version."""
    return int(item["version"]["N"])


def place_of(item: Item) -> str:
    """A row's keys, as a user finds it by them."""
    return f"{item['mapping']['S']}, {item['object']['S']}"


def name_of(kind: Kind, item: Item) -> str:
    """The name of the object that belongs into a row, whatever lies in it."""
    return str(item["object"]["S"]).removeprefix(f"{kind.plural}/")


def is_aged(item: Item, now: float) -> bool:
    """Whether a row is to get its whole life again."""
    return float(item.get("expires", {}).get("N", 0)) < now + LIFE - RENEWED_AFTER


def renewed(item: Item, now: float) -> Item:
    """The same row, the same version, with its whole life."""
    return item | {"expires": _end(now)}


def _end(now: float) -> dict[str, str]:
    return {"N": str(int(now) + LIFE)}
