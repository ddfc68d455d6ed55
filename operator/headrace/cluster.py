"""The Kubernetes API as this project asks it. Objects are plain dicts, as JSON has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from headrace.errors import HeadraceError, Reason

if TYPE_CHECKING:
    from headrace.resources import Kind

Body = dict[str, Any]


class ClusterError(HeadraceError):
    """The API did not do as asked; `status` is HTTP's; 0: no answer came, and it may have been done or not.

    `causes` are the codes of the answer's details, `reason` is what a condition says of it.
    """

    def __init__(
        self,
        message: str,
        status: int = 0,
        causes: frozenset[str] = frozenset(),
        reason: Reason = Reason.API_ERROR,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.causes = causes
        self.reason = reason


class ObjectNotFound(ClusterError):
    """The object is not there."""


class Conflict(ClusterError):
    """Somebody else changed it, or an object of that name is there already."""


class Cluster(Protocol):
    """What this project asks of a Kubernetes API. Everything raises ClusterError."""

    async def find(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """One object, None when it is not there."""
        ...

    async def select(self, kind: Kind, namespace: str | None, selector: str = "") -> list[Body]:
        """All objects a label selector finds, in one namespace or all."""
        ...

    async def versions(self, group: str) -> frozenset[str]:
        """The versions of an API group that are served; none: there is no such group."""
        ...

    async def create(self, kind: Kind, body: Body) -> Body:
        """Makes an object; raises Conflict when the name is taken."""
        ...

    async def replace(self, kind: Kind, body: Body) -> Body:
        """Replaces an object, with a `resourceVersion` only that version (else Conflict); raises ObjectNotFound."""
        ...

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Body, subresource: str | None = None) -> Body:
        """A JSON merge patch (RFC 7386); raises ObjectNotFound."""
        ...

    async def delete(self, kind: Kind, body: Body) -> None:
        """Deletes this very object (its UID), not one that took its name since; nothing to do is no error."""
        ...
