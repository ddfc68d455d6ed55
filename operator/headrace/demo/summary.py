"""What came out of it, in words. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.demo.account import Account
    from headrace.stream.metrics import Counts


def counted(account: Account, out_of_order: int, failures: int, queue: str, counts: Counts) -> list[str]:
    """What the three witnesses counted, and what Headrace did."""
    rows = (
        (account.written, "written, says the producer"),
        (account.acknowledged, "acknowledged, says the function"),
        (account.discarded, f"in {failures} failure record{'s' * (failures != 1)}, says the queue {queue}"),
        (account.missing, "in neither"),
        (account.twice, "in both"),
        (account.repeated, "acknowledged again"),
        (out_of_order, "out of a customer's order"),
    )
    headrace = (
        f"polled {counts.polled}, invoked {counts.invoked}, failedInvoke {counts.failed_invoke}, "
        f"delivered {counts.delivered}, dropped {counts.dropped}"
    )
    counted = [f"  {count:>4}  {what}" for count, what in rows]
    return ["Records, as counted by each for itself:", *counted, f"Headrace's own counts: {headrace}."]


def verdict(account: Account) -> str:
    """One sentence, either way."""
    if account.adds_up:
        return f"It adds up: {account.written} = {account.acknowledged} + {account.discarded}."
    return (
        f"It does not add up: {account.written} written, {account.acknowledged} acknowledged, {account.discarded} "
        f"in failure records, {account.missing} missing, {account.twice} in both."
    )


def failure_records(failures: Sequence[dict[str, Any]], queue: str) -> list[str]:
    """The failure records as they lie in the queue."""
    return [line for one in failures for line in (f"As it lies in {queue}:", *json.dumps(one, indent=2).splitlines())]


MEANING = (
    "What you saw: a batch kept failing, was tried three times, and left a failure record that says what to",
    "read again. The batches behind it followed in order, and no other shard waited for it. Being throttled",
    "(429) cost batches time, but no retry. With bisectBatchOnFunctionError: true, halves would have been",
    "tried, and the failure record would name the poison record alone.",
    "Next: describe your stream and function in an EventSourceMapping, then: headrace run -f mapping.yaml",
)
"""What the demo has shown, and where to go from there."""
