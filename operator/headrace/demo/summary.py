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
    records = f"{failures} failure record{'s' * (failures != 1)}"
    faults = (
        f"      {account.missing} missing, {account.twice} in both, {account.repeated} repeated, {out_of_order} out of order"
        if account.missing or account.twice or account.repeated or out_of_order
        else "   0  missing, in both, repeated, or out of order"
    )
    headrace = (
        f"polled {counts.polled}, invoked {counts.invoked}, failedInvoke {counts.failed_invoke}, "
        f"delivered {counts.delivered}, dropped {counts.dropped}"
    )
    return [
        "Counted independently, in records:",
        f"  {account.written:>4}  written, says the producer",
        f"  {account.acknowledged:>4}  acknowledged, says the function",
        f"  {account.discarded:>4}  in {records}, says the queue {queue}",
        f"  {faults}",
        f"Headrace: {headrace}.",
    ]


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
    "A batch that kept failing was tried three times and left with a failure record, which says what to read again; the",
    "batches behind it followed in order, and the other shard never waited. A throttle (429) only made batches wait: it",
    "spent no retry. With bisectBatchOnFunctionError: true, the failure record would hold the poison record alone.",
    "Next: describe your own stream and function in an EventSourceMapping and say: headrace run -f mapping.yaml",
)
