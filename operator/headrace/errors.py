"""What can go wrong, and whether trying again can help.

HeadraceError
├── InvalidMapping       a manifest is wrong: its errors, one sentence each; never retried
├── SourceError          the source did not answer as hoped; retried with back-off
│   └── Throttled        the source asks for patience; the place is kept
├── DestinationError     the on-failure destination did not take a record; `deliveryPolicy` decides
├── StoreError           the checkpoint store did not answer; retried with back-off
└── LeaseLost            somebody else holds this shard now; must not checkpoint
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Every reason a condition, an Event or a metric label may carry."""

    # good news
    READY = "Ready"
    REACHABLE = "Reachable"
    RUNNING = "Running"
    DISABLED = "Disabled"
    RECONCILED = "Reconciled"
    SHARDS_ASSIGNED = "ShardsAssigned"
    CONFIGURED = "Configured"
    # not known yet
    PENDING = "Pending"
    ROLLING_OUT = "RollingOut"
    # the resource
    INVALID_SPEC = "InvalidSpec"
    NOT_SUPPORTED_YET = "NotSupportedYet"
    DUPLICATE_MAPPING = "DuplicateMapping"
    # source and destination
    NOT_FOUND = "NotFound"
    ACCESS_DENIED = "AccessDenied"
    INVALID_CREDENTIALS = "InvalidCredentials"
    UNREACHABLE = "Unreachable"
    THROTTLED = "Throttled"
    REJECTED = "Rejected"
    SERVICE_ERROR = "ServiceError"
    # queue
    NO_DEAD_LETTER_QUEUE = "NoDeadLetterQueue"
    VISIBILITY_TOO_SHORT = "VisibilityTooShort"
    # filters
    FILTER_NEVER_MATCHES = "FilterNeverMatches"
    # function
    FUNCTION_ERROR = "FunctionError"
    # store and cluster
    LEASE_LOST = "LeaseLost"
    LEASE_BROKEN = "LeaseBroken"
    NAME_CONFLICT = "NameConflict"
    API_ERROR = "ApiError"
    NAMESPACE_TERMINATING = "NamespaceTerminating"
    # pods
    SERVICE_ACCOUNT_MISSING = "ServiceAccountMissing"
    PODS_REFUSED = "PodsRefused"
    PODS_UNSCHEDULABLE = "PodsUnschedulable"
    PODS_MISCONFIGURED = "PodsMisconfigured"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    PODS_CRASHING = "PodsCrashing"
    PODS_SILENT = "PodsSilent"
    # shards
    SHARDS_UNASSIGNED = "ShardsUnassigned"
    SHARD_LOST = "ShardLost"
    # records
    RECORDS_DISCARDED = "RecordsDiscarded"
    RECORDS_DROPPED = "RecordsDropped"
    RECORDS_TRIMMED = "RecordsTrimmed"
    STREAM_RECREATED = "StreamRecreated"


class HeadraceError(Exception):
    """Root of the tree above."""


class InvalidMapping(HeadraceError):
    """A manifest that cannot be run; `errors` holds one sentence per fault, each naming its property."""

    def __init__(self, *errors: str) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


class _Classified(HeadraceError):
    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class SourceError(_Classified):
    """The source could not be read; `reason` says why, the message what to do."""


class Throttled(SourceError):
    """The source asked for fewer requests."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.THROTTLED, message)


class DestinationError(_Classified):
    """The destination did not take the record."""


class StoreError(_Classified):
    """A checkpoint could not be read or written."""

    @property
    def broken(self) -> bool:
        """Whether the store is well, and what lies in it for one shard is not."""
        return self.reason is Reason.LEASE_BROKEN


class LeaseLost(HeadraceError):
    """The shard belongs to another poller now: to `holder`, or None where nobody is known to have it."""

    def __init__(self, message: str, holder: str | None = None) -> None:
        super().__init__(message)
        self.holder = holder
