"""LocalStack's KinesisPoller as a library: its own round of polls, a processor that posts the batch as Lambda's event.

It reads a batch and then sleeps for its interval, one shard after the other; nothing of it is stored.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from typing import Any

import boto3
import orjson
import requests
from localstack.services.lambda_.event_source_mapping.event_processor import EventProcessor
from localstack.services.lambda_.event_source_mapping.pollers.kinesis_poller import KinesisPoller

from tests.bench.loops.event import options_of


class Poster(EventProcessor):
    """Calls the function."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()

    def process_events_batch(self, input_events: list[dict[str, Any]]) -> None:
        event = orjson.dumps({"Records": input_events})
        self._session.post(self._url, data=event, headers={"Content-Type": "application/json"}).raise_for_status()

    def generate_event_failure_context(self, abort_condition: str, **kwargs: Any) -> dict[str, Any]:
        raise AssertionError(abort_condition)


def run(options: Namespace) -> None:
    poller = KinesisPoller(
        source_arn=options.arn,
        source_parameters={"KinesisStreamParameters": {"StartingPosition": "TRIM_HORIZON", "BatchSize": options.batch}},
        source_client=boto3.client("kinesis", endpoint_url=options.endpoint, region_name=options.region),
        processor=Poster(options.function),
        invoke_identity_arn=options.identity,
        kinesis_namespace=True,
    )
    while True:
        poller.poll_events()
        time.sleep(options.read_every / 1000)


if __name__ == "__main__":
    run(options_of(ArgumentParser(description=__doc__)))
