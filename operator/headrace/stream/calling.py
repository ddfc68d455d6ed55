"""One call of a batch, of a shard or a queue: sent, judged and told of. A shell without a rule of its own.

Before this: `delivering.py`, or `queue.py`. It goes to `functions/`; what came back is judged in `classify.py`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.stream.classify import Refused, classify
from headrace.stream.events import CallEnded, CallStarted
from headrace.stream.functions import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.records import Batch
    from headrace.stream.classify import Outcome
    from headrace.stream.events import Observer
    from headrace.stream.functions import Function
    from headrace.stream.settings import Delivery


@dataclass(frozen=True, slots=True)
class Request:
    """A batch that is to be called, and the event it goes out as.

    `since` is what its age counts from, in epoch seconds: its last record's arrival, or the start of its window.
    """

    shard_id: str
    batch: Batch
    event: bytes
    request_id: str
    attempt: int
    since: float
    lane: int = 0
    wants_state: bool = False


async def call(
    request: Request,
    function: Function,
    delivery: Delivery,
    observer: Observer,
    told: Callable[[Outcome], Outcome] = lambda outcome: outcome,
) -> Outcome:
    """What came of it; `told` makes of that what observers are told. An event beyond the limit is not sent (J.1)."""
    shard_id, batch, attempt, request_id = request.shard_id, request.batch, request.attempt, request.request_id
    if len(request.event) > delivery.limits.event_limit:
        refused = Refused(sent=False)
        observer(CallEnded(shard_id, batch, attempt, request_id, refused, 0.0, False, request.lane))
        return refused
    began = time.monotonic()
    observer(CallStarted(shard_id, batch, attempt, request_id, time.time() - request.since, request.lane))
    answer = await function.invoke(Call(request.event, request_id, attempt, shard_id))
    outcome = classify(
        answer,
        [record.sequence_number for record in batch],
        lambda_protocol=delivery.lambda_protocol,
        report_failures=delivery.report_failures,
        wants_state=request.wants_state,
    )
    took = time.monotonic() - began
    observer(CallEnded(shard_id, batch, attempt, request_id, told(outcome), took, lane=request.lane))
    return outcome
