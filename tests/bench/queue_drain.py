"""`make bench-queue`: how long a full queue takes, beside what its calls alone would and what the stub can serve.

    python -m tests.bench.queue_drain --messages 10000 --delay 0.02 --concurrency 50 --rounds 3

The ideal is messages x delay / concurrency. The bare loop does the same with aiobotocore and aiohttp and keeps no promise
(`loops/bare_queue.py`): what both spend is the least there is in this language, with one process. The ceiling is that of a loop of eight receives and deletes at a time, which
calls nobody.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.bench.processes import CONSUMER, Stub, environment_of, started, stub
from tests.bench.spread import in_turn

ARN = "arn:aws:sqs:eu-west-1:123456789012:bench"
AT_ONCE = 8


async def drained(options: Namespace, folder: Path, which: str) -> dict[str, float]:
    """One drain: seconds from the process's start to its first call, and from there to the last answer."""
    async with (
        stub("stub_sqs", folder, "--messages", options.messages) as queue,
        stub("stub_function", folder, "--delay", options.delay, "--mark", '"messageId"') as function,
    ):
        arguments = COMMANDS[which](options, folder, queue.url, f"{function.url}/")
        began = time.monotonic()
        environment = environment_of(queue.url, queue.url)
        with started([sys.executable, "-m", *arguments], folder, which, CONSUMER, **environment) as consumer:
            counted = await function.get(f"until?records={options.messages}", 120)
            await gone(queue)
            usage = consumer.usage()
        return {
            "start": counted["first"] - began,
            "drain": counted["last"] - counted["first"],
            "calls": counted["calls"],
            "cpu": usage.cpu,
        }


def headrace(options: Namespace, folder: Path, queue: str, function: str) -> list[str]:
    file = folder / "mapping.yaml"
    spec: dict[str, Any] = {
        "eventSourceArn": ARN,
        "function": {"url": function},
        "batchSize": 1,
        "scalingConfig": {"maximumConcurrency": options.concurrency},
        "aws": {"endpointUrl": queue},
    }
    metadata = {"name": "bench", "namespace": "bench"}
    document = {"apiVersion": "headrace.dev/v1alpha1", "kind": "EventSourceMapping"}
    file.write_text(yaml.safe_dump(document | {"metadata": metadata, "spec": spec}))
    return ["headrace", "run", "-f", str(file), "--log-format", "json"]


def bare(options: Namespace, _: Path, queue: str, function: str) -> list[str]:
    arguments = ["--endpoint", queue, "--queue", f"{queue}/bench", "--function", function]
    return ["tests.bench.loops.bare_queue", *arguments, "--concurrency", str(options.concurrency)]


COMMANDS = {"bare": bare, "headrace": headrace}


async def gone(queue: Stub) -> None:
    """Waits until every message is deleted."""
    async with asyncio.timeout(10):
        while await queue.get("left"):
            await asyncio.sleep(0.05)


async def ceiling(options: Namespace, folder: Path) -> float:
    """Messages a second that the stub serves to a loop that does nothing else."""
    async with stub("stub_sqs", folder, "--messages", options.messages) as queue:
        began = time.monotonic()

        async def take() -> None:
            while messages := (await asked(queue, "ReceiveMessage", MaxNumberOfMessages=10)).get("Messages"):
                entries = [{"Id": one["MessageId"], "ReceiptHandle": one["ReceiptHandle"]} for one in messages]
                await asked(queue, "DeleteMessageBatch", Entries=entries)

        await asyncio.gather(*(take() for _ in range(AT_ONCE)))
        return float(options.messages / (time.monotonic() - began))


async def asked(queue: Stub, operation: str, **body: Any) -> Any:
    headers = {"X-Amz-Target": f"AmazonSQS.{operation}"}
    async with queue.session.post(f"{queue.url}/", json=body, headers=headers) as answer:
        answer.raise_for_status()
        return await answer.json(content_type=None)


async def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--delay", type=float, default=0.02)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ideal = options.messages * options.delay / options.concurrency
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        served = [await ceiling(options, Path(name)) for _ in range(options.rounds)]
        rounds = [
            {who: await drained(options, Path(name), who) for who in in_turn(list(COMMANDS), number)}
            for number in range(options.rounds)
        ]
    for who in COMMANDS:
        for number, one in enumerate((each[who] for each in rounds), 1):
            print(
                f"{who}, round {number}: {one['calls']} calls, start {one['start']:.2f} s, drain {one['drain']:.2f} s"
                f" = {one['drain'] / ideal:.2f} x the ideal {ideal:g} s, CPU {one['cpu']:.1f} s"
            )
        drain = statistics.median(each[who]["drain"] for each in rounds)
        print(f"{who}: median {drain:.2f} s, {drain / ideal:.2f} x the ideal")
    print(f"the stub serves {statistics.median(served):,.0f} messages a second")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except aiohttp.ClientError as error:
        sys.exit(str(error))
