"""What runs one mapping: the shards of a stream, or the messages of a queue.

Before this: `headrace run` or `headrace poller`. After this: `mapping.py` or `queue.py`.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from headrace.spec_rule import QUEUES
from headrace.stream.destinations import open_destination
from headrace.stream.functions import open_function
from headrace.stream.mapping import MappingRun
from headrace.stream.queue import QueueRun
from headrace.stream.settings import delivery_of, doubtful_filters
from headrace.stream.sources import open_queue, open_source

if TYPE_CHECKING:
    import asyncio

    from headrace.spec import EventSourceMapping
    from headrace.stream.aws import AwsSettings
    from headrace.stream.events import Observer
    from headrace.stream.membership import Membership
    from headrace.stream.stores import CheckpointStore


async def run_mapping(
    mapping: EventSourceMapping,
    store: CheckpointStore,
    aws: AwsSettings,
    observer: Observer,
    stop: asyncio.Event,
    membership: Membership,
) -> None:
    """Processes what of a mapping falls to this poller, until `stop` is set and the calls in flight ended.

    A queue keeps its own account of what is done: `store` is for streams.
    """
    async with AsyncExitStack() as opened:
        delivery = delivery_of(mapping)
        for doubt in doubtful_filters(mapping):
            observer(doubt)
        function = open_function(mapping)
        opened.push_async_callback(function.aclose)
        if mapping.source_kind in QUEUES:
            queue = open_queue(mapping, aws)
            opened.push_async_callback(queue.aclose)
            await QueueRun(mapping, delivery, queue, function, membership, observer, stop).run()
            return
        source = open_source(mapping, aws)
        opened.push_async_callback(source.aclose)
        destination = open_destination(mapping, aws)
        if destination is not None:
            opened.push_async_callback(destination.aclose)
        await MappingRun(mapping, delivery, source, function, destination, store, membership, observer, stop).run()
