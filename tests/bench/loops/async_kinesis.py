"""async-kinesis: its consumer, whose records are posted as Lambda's event, checkpoints in memory.

It hands over a record's data only; the rest of the record travels with them on a subclass of bytes.
"""

from __future__ import annotations

import asyncio
import base64
from argparse import ArgumentParser, Namespace
from typing import Any

import aiohttp
import orjson
from kinesis import Consumer
from kinesis.processors import Processor

from tests.bench.loops.event import event_of, options_of


class Datum(bytes):
    """A record's data, the record, and whether it is the last one of a read: then a batch waits for no other."""

    record: dict[str, Any]
    shard_id: str
    last: bool


class Whole(Processor):
    """Gives the data on as they are."""

    def parse(self, data: Datum) -> list[Datum]:
        return [data]


class WholeRecords(Consumer):
    """A consumer whose data know their record."""

    async def get_records(self, shard: dict[str, Any]) -> Any:
        answer = await super().get_records(shard)
        if answer:
            for record in answer["Records"]:
                data = Datum(record["Data"])
                data.record, data.shard_id, data.last = record, shard["ShardId"], record is answer["Records"][-1]
                record["Data"] = data
        return answer


def plain(datum: Datum) -> dict[str, Any]:
    """As GetRecords gives it."""
    return datum.record | {
        "Data": base64.b64encode(datum).decode(),
        "ApproximateArrivalTimestamp": round(datum.record["ApproximateArrivalTimestamp"].timestamp(), 3),
    }


class Loop:
    """Batches for each shard, one call at a time."""

    def __init__(self, options: Namespace, session: aiohttp.ClientSession) -> None:
        self._options = options
        self._session = session

    async def run(self) -> None:
        options = self._options
        async with WholeRecords(
            options.arn.rpartition("/")[2],
            endpoint_url=options.endpoint,
            region_name=options.region,
            processor=Whole(),
            shard_fetch_rate=max(1, 1000 // options.read_every),
            sleep_time_no_records=options.read_every / 1000,
        ) as consumer:
            while True:
                await self._flow(consumer)

    async def _flow(self, consumer: Consumer) -> None:
        """Until nothing has come for two seconds, which ends its iteration."""
        batches: dict[str, list[Datum]] = {}
        async for datum in consumer:
            batch = batches.setdefault(datum.shard_id, [])
            batch.append(datum)
            if datum.last or len(batch) == self._options.batch:
                await self._post(batches.pop(datum.shard_id))

    async def _post(self, batch: list[Datum]) -> None:
        shard_id = batch[0].shard_id
        event = {"Records": [event_of(plain(datum), shard_id, self._options) for datum in batch]}
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self._options.function, data=orjson.dumps(event), headers=headers) as answer:
            await answer.read()
            answer.raise_for_status()


async def run(options: Namespace) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await Loop(options, session).run()


if __name__ == "__main__":
    asyncio.run(run(options_of(ArgumentParser(description=__doc__))))
