"""kcl-rs: a record processor that posts the batch as Lambda's event, and checkpoints once its records are answered for.

Leases and checkpoints lie in the DynamoDB that AWS_ENDPOINT_URL_DYNAMODB names. It reads a shard every 200 ms at most.
With its default of a minute between two looks at the shards it takes more than a minute to its first read.
"""

from __future__ import annotations

import asyncio
import base64
import signal
from argparse import ArgumentParser, Namespace
from typing import Any

import aiohttp
import orjson
from kcl_rs import RecordProcessorBase, Scheduler

from tests.bench.loops.event import event_of, options_of


class Caller:
    """Posts from the one event loop there is; record processors run in threads of kcl-rs's own."""

    def __init__(self, options: Namespace, session: aiohttp.ClientSession) -> None:
        self.options = options
        self._session = session
        self._loop = asyncio.get_running_loop()

    def deliver(self, records: list[Any], shard_id: str) -> None:
        asyncio.run_coroutine_threadsafe(self._deliver(records, shard_id), self._loop).result()

    async def _deliver(self, records: list[Any], shard_id: str) -> None:
        size, parallel = self.options.batch, self.options.parallel
        batches = [records[start : start + size] for start in range(0, len(records), size)]
        for start in range(0, len(batches), parallel):
            await asyncio.gather(*(self._post(batch, shard_id) for batch in batches[start : start + parallel]))

    async def _post(self, batch: list[Any], shard_id: str) -> None:
        event = {"Records": [event_of(plain(record), shard_id, self.options) for record in batch]}
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self.options.function, data=orjson.dumps(event), headers=headers) as answer:
            await answer.read()
            answer.raise_for_status()


def plain(record: Any) -> dict[str, Any]:
    """As GetRecords gives it."""
    return {
        "SequenceNumber": record.sequence_number,
        "PartitionKey": record.partition_key,
        "Data": base64.b64encode(record.data).decode(),
        "ApproximateArrivalTimestamp": record.timestamp_millis / 1000,
    }


class Processor(RecordProcessorBase):
    """One shard's."""

    caller: Caller
    shard_id = ""

    def initialize(self, initialize_input: Any) -> None:
        self.shard_id = initialize_input.shard_id

    def process_records(self, process_records_input: Any) -> None:
        if process_records_input.records:
            self.caller.deliver(process_records_input.records, self.shard_id)
            process_records_input.checkpointer.checkpoint()

    def lease_lost(self, lease_lost_input: Any) -> None:
        pass

    def shard_ended(self, shard_ended_input: Any) -> None:
        shard_ended_input.checkpointer.checkpoint()

    def shutdown_requested(self, shutdown_requested_input: Any) -> None:
        shutdown_requested_input.checkpointer.checkpoint()


async def run(options: Namespace) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        Processor.caller = Caller(options, session)
        scheduler = Scheduler(
            stream_name=options.arn.rpartition("/")[2],
            application_name=options.arn.rpartition("/")[2],
            record_processor_factory=Processor,
            region=options.region,
            initial_position="TRIM_HORIZON",
            retrieval_mode="POLLING",
            idle_time_between_reads_millis=options.read_every,
            shard_sync_interval_millis=options.sync_every,
        )
        await asyncio.to_thread(scheduler.start)
        await stop.wait()
        await asyncio.to_thread(scheduler.shutdown)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--sync-every", type=int, default=1000, help="milliseconds; its default is a minute")
    asyncio.run(run(options_of(parser)))


if __name__ == "__main__":
    main()
