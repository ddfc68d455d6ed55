"""That every peer sends the function the same: the same calls with the same records, field by field.

What belongs to one invocation (ids, deadlines) travels in headers, which are not compared.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

from tests.bench.peers import Job, Peer, Unavailable
from tests.bench.processes import CONSUMER, Bench, environment_of, started, stub

if TYPE_CHECKING:
    from collections.abc import Iterable

RECORDS = 250
BATCH = 100
LONGEST = 60.0
ARN = "eventSourceARN"

Call = dict[str, Any]


class Different(Exception):
    """A peer that sends something else than the others: its figures would be those of another task."""


def difference(one: list[Call], other: list[Call]) -> str | None:
    """Where two peers' calls first differ, None where they do not; spaces and the order of names are no difference."""
    if [len(call["Records"]) for call in one] != [len(call["Records"]) for call in other]:
        return f"calls of {sizes(one)} and of {sizes(other)} records"
    for number, (left, right) in enumerate(zip(records(one), records(other), strict=True)):
        for path in sorted(left.keys() | right.keys()):
            if left.get(path) != right.get(path) or type(left.get(path)) is not type(right.get(path)):
                return f"record {number}, {path}: {left.get(path)!r} and {right.get(path)!r}"
    return None


def sizes(calls: list[Call]) -> list[int]:
    return [len(call["Records"]) for call in calls]


def records(calls: list[Call]) -> list[dict[str, Any]]:
    """Every record as one level of names."""
    return [
        {name: value for name, value in record.items() if name != "kinesis"}
        | {f"kinesis.{name}": value for name, value in record["kinesis"].items()}
        for call in calls
        for record in call["Records"]
    ]


async def calls_of(at: Bench, peer: Peer) -> list[Call]:
    """What a peer sends of a stream of its own; raises Unavailable, TimeoutError."""
    name = f"same-{time.monotonic_ns()}"
    arn = (await at.kinesis.ask("stream", name=name, shards=1, records=RECORDS))["arn"]
    folder = at.folder / name
    folder.mkdir()
    async with stub("stub_function", at.folder, "--keep") as function:
        command = peer.command(Job(at.kinesis.url, arn, f"{function.url}/", BATCH), folder)
        with started(command, folder, name, CONSUMER, **environment_of(at.kinesis.url, at.services)):
            await function.get(f"until?records={RECORDS}", LONGEST)
        bodies = [base64.b64decode(body).decode() for _, body in await function.get("calls?after=0")]
    return [json.loads(body.replace(name, "same")) for body in bodies]


async def check(at: Bench, peers: Iterable[Peer]) -> list[str]:
    """Raises Different; gives sentences about those who could not be asked."""
    left_out: list[str] = []
    first: tuple[str, list[Call]] | None = None
    for peer in peers:
        try:
            calls = await calls_of(at, peer)
        except Unavailable as error:
            left_out.append(str(error))
            continue
        except TimeoutError:
            left_out.append(f"{peer.name} did not send {RECORDS} records within {LONGEST:g} s")
            continue
        first = first or (peer.name, calls)
        if found := difference(first[1], calls):
            raise Different(f"{first[0]} and {peer.name} send different events: {found}")
    return left_out
