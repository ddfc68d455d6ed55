"""How a function is called: a Protocol, the values of a call, and one file per protocol."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from headrace.spec import EventSourceMapping


@dataclass(frozen=True, slots=True)
class Response:
    """What came back: HTTP status, the headers that matter (lower-case names), the body (at most 6 MB and a little)."""

    status: int
    headers: dict[str, str]
    body: bytes


class Fault(StrEnum):
    """Why there is no response."""

    NOT_CONNECTED = "NotConnected"
    """The request never reached the function: refused, DNS, TLS, connect time-out, or a kept connection gone stale."""
    TIMED_OUT = "TimedOut"
    """The request was sent and the function's time ran out."""
    DROPPED = "Dropped"
    """The request was sent over a new connection, which then broke: the process behind it died or hung up."""
    TOO_LARGE = "TooLarge"
    """The response is over the 6 MB a function may answer."""


@dataclass(frozen=True, slots=True)
class NoResponse:
    """A call without a usable response."""

    fault: Fault
    detail: str


@dataclass(frozen=True, slots=True)
class Call:
    """One invocation: the event, as the protocol encodes it, and what the headers tell (design)."""

    event: bytes
    request_id: str
    attempt: int
    shard_id: str


class Function(Protocol):
    """A function behind HTTP."""

    async def invoke(self, call: Call) -> Response | NoResponse:
        """Sends one event and waits for the answer, at most the function's time; judges nothing, never retries."""
        ...

    async def aclose(self) -> None:
        """Frees the connections."""
        ...


def open_function(mapping: EventSourceMapping) -> Function:
    """The function that a mapping names; makes no call, and no connection yet."""
    # Both need the values above.
    from headrace.stream.functions import cloudevents  # noqa: PLC0415
    from headrace.stream.functions.http import FunctionSettings, HttpFunction  # noqa: PLC0415

    function = mapping.spec.function
    return HttpFunction(
        FunctionSettings(
            url=mapping.function_url,
            timeout=float(function.timeout_seconds),
            mapping_key=mapping.key,
            mapping_uid=mapping.resolved_uid,
            headers=function.headers,
            content_type=cloudevents.CONTENT_TYPE if function.protocol == "cloudevents" else "application/json",
        )
    )


def request_id_of(mapping_uid: str, batch: str) -> str:
    """The id of a call: the same for identical batches, whenever they are called; `batch` names one (contract B.4)."""
    return str(uuid.uuid5(_namespace(mapping_uid), batch))


@lru_cache
def _namespace(mapping_uid: str) -> uuid.UUID:
    return uuid.UUID(mapping_uid)
