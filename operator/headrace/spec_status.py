"""The status of an EventSourceMapping, and the ShardLease. Pure.

The operator and the pollers write these; here they are models so that the CRDs are generated from them.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads the annotations
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from headrace.spec_base import Flag, Instant, Number, Part, SequenceNumber, Text, Whole

Count = Annotated[Whole, Field(ge=0)]


class Condition(Part):
    """One aspect of a mapping's state, as Kubernetes conditions are."""

    type: Annotated[str, Field(max_length=316)]
    """Aspect, such as Ready or SourceReachable."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=1024)] = ""
    """Why, as one word."""
    message: Annotated[str, Field(max_length=32_768)] = ""
    """Why, and what to do, as a sentence."""
    last_transition_time: datetime | None = None
    """When `status` last changed."""
    observed_generation: Count | None = None
    """Generation of the mapping that this was seen on."""


class Shards(Part):
    """How many shards there are."""

    total: Count = 0
    """All that are not finished."""
    assigned: Count = 0
    """Those that a poller holds."""
    blocked: Count = 0
    """Those that wait for their destination or retry without end."""


class EventSourceMappingStatus(Part):
    """What is known of a mapping."""

    state: Literal["Creating", "Enabling", "Enabled", "Disabling", "Disabled", "Updating", "Deleting"] | None = None
    """Lambda's states."""
    state_transition_reason: str | None = None
    """Why the state changed last."""
    last_processing_result: str | None = None
    """Outcome of the last batch, in Lambda's words."""
    conditions: tuple[Condition, ...] = ()
    """Aspects of the state, by type."""
    shards: Shards | None = None
    """How many shards there are."""
    pollers: Count | None = None
    """Pollers that are alive."""
    function: str | None = None
    """Name of the function's Service, or host of its URL."""
    iterator_age_seconds: Annotated[float, Field(ge=0)] | None = None
    """Age of the record read last, of the shard that is furthest behind."""
    observed_generation: Count | None = None
    """Generation of the mapping that this was seen on."""


class ShardState(StrEnum):
    """What a shard is doing."""

    WAITING = "Waiting"
    AVAILABLE = "Available"
    HELD = "Held"
    RETRYING = "Retrying"
    BLOCKED = "Blocked"
    FINISHED = "Finished"


class ShardLeaseSpec(Part):
    """Which shard of which mapping."""

    mapping_name: Text
    """Name of the mapping, in the same namespace."""
    mapping_uid: Text
    """UID of the mapping: a new one of the same name starts anew."""
    event_source_arn: Text
    """Stream that the shard belongs to."""
    shard_id: Text
    """Id of the shard."""
    parents: tuple[Text, ...] = ()
    """Ids of the shards it was split or merged from; they are finished first."""
    stream_created_at: Instant | None = None
    """When the stream was made: one of the same name that was made later is another."""


class GivenUpStatus(Part):
    """The last answer to a batch that was given up."""

    at: Annotated[Number, Field(ge=0)]
    """When it was given up, in epoch seconds."""
    status_code: Count | None = None
    """HTTP status of the answer; none came where it is missing."""
    function_error: Annotated[str, Field(max_length=1024)] | None = None
    """Kind of function error."""
    executed_version: Annotated[str, Field(max_length=1024)] = "$LATEST"
    """Version that answered."""


class LaneHead(Part):
    """The batch at the head of a lane."""

    first: SequenceNumber
    """Sequence number of its first record."""
    last: SequenceNumber
    """Sequence number of its last record."""
    count: Count
    """Records in it."""
    attempts: Count
    """Failed calls with exactly this batch."""
    given_up: GivenUpStatus | None = None
    """Last answer to it, once its attempts are spent and its failure record waits for the destination."""


class LaneStatus(Part):
    """How far one lane is beyond the checkpoint."""

    factor: Annotated[Whole, Field(ge=1, le=10)]
    """Lanes there were when it began."""
    index: Annotated[Whole, Field(ge=0, le=9)]
    """Which of them."""
    sequence_number: SequenceNumber | None = None
    """Every record of this lane up to this one is decided."""
    open: Flag = False
    """What its keys have behind that is still its own, though the factor has changed."""
    head: LaneHead | None = None
    """Batch that has failed before."""


class WindowStatus(Part):
    """The tumbling window that is open."""

    start: Count
    """When it starts, in epoch seconds."""
    end: Count
    """When it ends."""
    first: SequenceNumber
    """Sequence number of the record that opened it."""
    final: Flag = False
    """Its final call is due."""
    early: Flag = False
    """Its state has grown too large, so that it ends before its time."""
    state: tuple[Text, ...] = ()
    """Names of the WindowStates that hold its state, in order."""


class ShardLeaseStatus(Part):
    """Who holds the shard, and how far it is decided."""

    holder: Text | None = None
    """Poller that holds it."""
    incarnation: Text | None = None
    """Life of that poller."""
    sequence_number: SequenceNumber | None = None
    """Checkpoint: every record up to this one is decided."""
    lanes: tuple[LaneStatus, ...] = ()
    """Lanes that are further than the checkpoint, or whose batch has failed before."""
    window: WindowStatus | None = None
    """Tumbling window that is open."""
    finished: Flag = False
    """The shard has ended and its last record is decided."""
    state: ShardState | None = None
    """What the shard is doing."""
    attempts: Count | None = None
    """Failed calls with the batch at the head."""
    last_error: Annotated[str, Field(max_length=32_768)] | None = None
    """What went wrong last."""
    stuck_since: datetime | None = None
    """Since when the batch at the head fails, or waits for its destination."""
    stuck_on: Text | None = None
    """Sequence number of that batch's first record."""
    iterator_age_seconds: Annotated[float, Field(ge=0)] | None = None
    """Age of the record read last."""
    updated_at: datetime | None = None
    """When this was written."""


class ShardLease(Part):
    """One shard of a mapping: its holder and its checkpoint."""

    spec: ShardLeaseSpec
    """Which shard."""
    status: ShardLeaseStatus | None = None
    """Holder and checkpoint; no subresource, so that one compare-and-swap write covers all."""


class WindowStateSpec(Part):
    """A piece of a tumbling window's state."""

    shard_lease: Text
    """Name of the ShardLease whose checkpoint it belongs to, in the same namespace."""
    piece: Annotated[str, Field(max_length=1_048_576)]
    """Part of the compressed state, as base64."""


class WindowState(Part):
    """What a function has made of a tumbling window so far; written by pollers, named by the ShardLease."""

    spec: WindowStateSpec
    """The piece."""
