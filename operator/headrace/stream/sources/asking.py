"""What sources share in asking AWS: errors as a SourceError with advice, answers out of form, the server's time."""

from __future__ import annotations

from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from headrace.errors import Reason, SourceError, Throttled
from headrace.stream.aws import MALFORMED, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ADVICE: Mapping[Reason, str] = {
    Reason.NOT_FOUND: "create it, or correct spec.eventSourceArn",
    Reason.INVALID_CREDENTIALS: "give the poller valid AWS credentials",
    Reason.UNREACHABLE: "check the network and the endpoint",
    Reason.THROTTLED: "reads go on more slowly",
    Reason.REJECTED: "check spec.eventSourceArn",
    Reason.SERVICE_ERROR: "it is tried again",
}
"""What to do about each reason; a source adds what must be allowed."""
UNKNOWN = frozenset({Reason.NOT_FOUND, Reason.REJECTED})
"""How a sequence number is refused that is not there any more (and a stream that is not)."""


def source_error(arn: str, error: BaseException, advice: Mapping[Reason, str]) -> SourceError:
    """What a failed call means for the source: its ARN, AWS's own code, what to do."""
    reason, words = reason_of(error)
    message = f"{arn}: {words}; {advice[reason]}"
    return Throttled(message) if reason is Reason.THROTTLED else SourceError(reason, message)


def code_of(error: BaseException) -> str:
    """AWS's code of an answer that is an error; empty for any other failure."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


@contextmanager
def understanding(arn: str, service: str) -> Iterator[None]:
    """An answer that is not in the service's form is a fault of what stands in for it: SourceError."""
    try:
        yield
    except MALFORMED as error:
        sentence = f"{arn}: the answer is not in {service}'s form; check the endpoint"
        raise SourceError(Reason.SERVICE_ERROR, sentence) from error


def server_time(date: str | None, before: float) -> float:
    """The server's time when it answered, from its Date header, which has whole seconds only.

    Where the local clock, read before the call, agrees with it, the local one's fraction is taken; else the header's
    second, so that what is written from now on is never older than the answer. Without a header the local clock serves.
    """
    if date is None:
        return before
    second = parsedate_to_datetime(date).timestamp()
    return before if second - 1 <= before < second + 1 else second
