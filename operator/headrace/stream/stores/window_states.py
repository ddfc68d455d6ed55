"""The states of tumbling windows in WindowState objects, beside the ShardLease whose checkpoint names them.

A state may have 6 MB and an object holds hardly one, so it is compressed and lies in pieces. Objects are never changed:
each write makes new ones, the lease is written after them, and those that no lease names any more go last. So a poller
that has lost its shard without knowing it can spoil nothing.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import zlib
from typing import TYPE_CHECKING

from headrace.cluster import ObjectNotFound
from headrace.errors import Reason, StoreError
from headrace.resources import LABEL_SHARD_LEASE, WINDOW_STATE
from headrace.stream.stores import BrokenObject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.cluster import Body
    from headrace.resources import MappingRef
    from headrace.stream.stores import Objects

PIECE = 700_000
"""Compressed bytes of one object: with base64 and its metadata it stays below 1 MB, well within etcd's 1.5 MiB."""
LARGEST = 8 * 1024 * 1024
"""Bytes of a state beyond which it is none: a function cannot answer so much."""


class WindowStates:
    """The WindowState objects that one life of a poller writes and reads."""

    def __init__(self, cluster: Objects, mapping: MappingRef, incarnation: str, piece: int = PIECE) -> None:
        self._cluster = cluster
        self._piece = piece
        self._mapping = mapping
        self._incarnation = incarnation
        self._numbers = itertools.count(1)

    async def write(self, lease: str, state: bytes) -> list[Body]:
        """Writes a state and gives its objects, in order; raises ClusterError, and StoreError without their CRD."""
        number = next(self._numbers)
        written = []
        for index, piece in enumerate(_pieces(state, self._piece)):
            name = f"{lease}-{self._incarnation}-{number}-{index}"
            metadata = self._mapping.metadata(name)
            metadata["labels"] |= {LABEL_SHARD_LEASE: lease}
            body = {"apiVersion": WINDOW_STATE.api_version, "kind": WINDOW_STATE.kind, "metadata": metadata}
            try:
                written.append(
                    await self._cluster.create(WINDOW_STATE, body | {"spec": {"shardLease": lease, "piece": piece}})
                )
            except ObjectNotFound as error:
                sentence = "the kind WindowState is not known to the API server; apply crds/windowstates.yaml"
                raise StoreError(Reason.API_ERROR, sentence) from error
        return written

    async def read(self, lease: str, names: Sequence[str]) -> bytes:
        """The state again; raises StoreError when a part of it is gone or broken, and ClusterError."""
        try:
            found = [await self._cluster.find(WINDOW_STATE, self._mapping.namespace, name) for name in names]
            return _joined([body["spec"]["piece"] for body in found if body is not None])
        except (BrokenObject, zlib.error, binascii.Error, ValueError) as error:
            sentence = (
                f"the WindowStates {', '.join(names)} are gone or broken; bring them back, or take status.window away"
                f" from the ShardLease {lease}, or its row, to go on without what the window held"
            )
            raise StoreError(Reason.LEASE_BROKEN, sentence) from error

    async def there(self, lease: str) -> list[Body]:
        """Every object of a lease that is there now and whole; raises ClusterError."""
        selector = f"{self._mapping.selector},{LABEL_SHARD_LEASE}={lease}"
        there = await self._cluster.select(WINDOW_STATE, self._mapping.namespace, selector)
        return [one for one in there if not isinstance(one, BrokenObject)]

    async def delete(self, bodies: Sequence[Body]) -> None:
        """Takes objects away; raises ClusterError."""
        for body in bodies:
            await self._cluster.delete(WINDOW_STATE, body)


def _pieces(state: bytes, size: int) -> list[str]:
    packed = zlib.compress(state)
    return [base64.b64encode(packed[at : at + size]).decode() for at in range(0, len(packed), size)]


def _joined(pieces: Sequence[str]) -> bytes:
    """Raises ValueError, or one of its kind, for what is not whole."""
    unpacking = zlib.decompressobj()
    state = unpacking.decompress(b"".join(base64.b64decode(piece, validate=True) for piece in pieces), LARGEST)
    if not unpacking.eof:
        raise ValueError("not whole")
    return state
