"""What the world decides never ends a run: it is told, tried again, and mended by itself (design, "Ways to run")."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import aws, servers
from tests.support.aws import make_queue, make_stream, unique
from tests.support.function import RecordingFunction, fails_on, function_error, success
from tests.support.headrace import Running, finished, mapping, on_failure, run, write
from tests.support.servers import free_port

ARN = f"arn:aws:kinesis:{aws.REGION}:000000000000:stream/"


def conditions(running: Running, kind: str, event: str) -> list[dict[str, Any]]:
    return [entry for entry in running.logged(event) if entry.get("condition") == kind]


@pytest.fixture
async def metrics_port() -> int:
    return free_port()


async def scrape(port: int) -> dict[str, float]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def total(samples: dict[str, float], name: str) -> float:
    return sum(value for sample, value in samples.items() if sample.split("{")[0] == name)


async def test_a_stream_that_does_not_exist_yet_is_waited_for(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    name = unique("late")
    file = write(tmp_path, mapping(ARN + name, function.url))
    async with run(file, ministack) as running:
        await running.until(lambda: len(conditions(running, "SourceReachable", "does not hold")) >= 2)
        refused = conditions(running, "SourceReachable", "does not hold")[0]
        assert refused["reason"] == "NotFound"
        assert name in refused["message"]
        stream = await make_stream(kinesis, name=name)
        await stream.put("1")
        await function.until(lambda: function.seen == [["1"]])
        assert conditions(running, "SourceReachable", "condition holds")
        assert await running.stop() == 0
    assert not any("Traceback" in line for line in running.lines)


async def test_an_endpoint_that_is_away_is_waited_for(function: RecordingFunction, tmp_path: Path) -> None:
    port = free_port()
    name = unique("away")
    file = write(tmp_path, mapping(ARN + name, function.url))
    async with run(file, f"http://127.0.0.1:{port}", "--exit-when-idle", 1) as running:
        await running.until(lambda: conditions(running, "SourceReachable", "does not hold"))
        assert conditions(running, "SourceReachable", "does not hold")[0]["reason"] == "Unreachable"
        with servers.ministack(tmp_path, port) as url:
            async with aws.client("kinesis", url) as kinesis:
                await (await make_stream(kinesis, name=name)).put("1")
            await function.until(lambda: function.seen == [["1"]])
            assert await running.end() == 0


async def test_a_source_that_goes_away_keeps_its_place(function: RecordingFunction, tmp_path: Path) -> None:
    """The emulator is stopped and started with its state; what was acknowledged does not come again."""
    port = free_port()
    frozen = asyncio.Event()
    upstream_port = free_port()
    with servers.ministack(tmp_path, upstream_port) as url:
        async with aws.client("kinesis", url) as kinesis, gate(port, upstream_port, frozen):
            stream = await make_stream(kinesis)
            await stream.put("1")
            file = write(tmp_path, mapping(stream.arn, function.url))
            async with run(file, f"http://127.0.0.1:{port}") as running:
                await function.until(lambda: function.seen == [["1"]])
                frozen.set()
                await running.until(lambda: conditions(running, "SourceReachable", "does not hold"))
                await stream.put("2")
                frozen.clear()
                await function.until(lambda: len(function.seen) == 2)
                assert function.seen == [["1"], ["2"]]
                assert await running.stop() == 0


def gate(port: int, upstream: int, closed: asyncio.Event) -> Any:
    """A TCP proxy that hangs up on everybody while `closed` is set."""
    from contextlib import asynccontextmanager

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (data := await reader.read(65536)) and not closed.is_set():
            writer.write(data)
            await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if closed.is_set():
                return
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", upstream)
            pumps = {
                asyncio.ensure_future(pump(reader, there_writer)),
                asyncio.ensure_future(pump(there_reader, writer)),
            }
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for one in pumps:
                one.cancel()
            there_writer.close()
        except ConnectionError:
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        try:
            yield
        finally:
            server.close()

    return opened()


async def test_a_function_that_is_away_is_waited_for(ministack: str, kinesis: Any, tmp_path: Path) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1")
    port = free_port()
    file = write(tmp_path, mapping(stream.arn, f"http://127.0.0.1:{port}/", maximumRetryAttempts=0))
    async with run(file, ministack, "--exit-when-idle", 1) as running:
        await running.until(lambda: len(running.logged("the function was not reached")) >= 3)
        function = RecordingFunction()
        runner = await function.start(port)
        await function.until(lambda: function.seen == [["1"]])
        assert await running.end() == 0
        await runner.cleanup()
    assert running.summary["dropped"] == 0


async def test_block_waits_for_a_destination_and_goes_on_when_it_is_there(
    ministack: str, kinesis: Any, sqs: Any, function: RecordingFunction, tmp_path: Path, metrics_port: int
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1", "2")
    name = unique("later")
    function.answer = fails_on("1")
    spec = mapping(
        stream.arn, function.url, batchSize=1, maximumRetryAttempts=0,
        destinationConfig=on_failure(f"arn:aws:sqs:{aws.REGION}:000000000000:{name}"),
    )  # fmt: skip
    file = write(tmp_path, spec)
    async with run(file, ministack, "--metrics-port", metrics_port, "--exit-when-idle", 1) as running:
        await running.until(lambda: len(running.logged("failure record could not be delivered")) >= 2)
        assert conditions(running, "DestinationReachable", "does not hold")[0]["reason"] == "NotFound"
        samples = await scrape(metrics_port)
        assert total(samples, "headrace_destination_publish_errors_total") >= 2
        assert any('type="DestinationReachable"' in name and value == 0 for name, value in samples.items())
        assert function.seen == [["1"]], "the lane waits behind its discard"
        queue = await make_queue(sqs, name)
        await function.until(lambda: function.seen == [["1"], ["2"]])
        assert await running.end() == 0
    (document,) = await queue.drain()
    assert document["KinesisBatchInfo"]["startSequenceNumber"] == stream.numbers[0]
    assert (running.summary["delivered"], running.summary["dropped"]) == (1, 0)


async def test_drop_gives_a_destination_up_and_counts_the_loss(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    """Contract K.5 row 52."""
    stream = await make_stream(kinesis)
    await stream.put("1", "2", "3")
    function.answer = fails_on("1")
    missing = f"arn:aws:sqs:{aws.REGION}:000000000000:{unique('never')}"
    spec = mapping(
        stream.arn, function.url, batchSize=1, maximumRetryAttempts=0,
        destinationConfig=on_failure(missing, deliveryPolicy="Drop"),
    )  # fmt: skip
    async with run(write(tmp_path, spec), ministack, "--exit-when-idle", 1) as running:
        await function.until(lambda: function.seen == [["1"], ["2"], ["3"]], seconds=60)
        waited = function.calls[1].at - function.calls[0].at
        assert 10 <= waited < 25, "given up after 15 seconds at most, and what a busy machine adds"
        assert await running.end() == 0
    assert (running.summary["delivered"], running.summary["dropped"]) == (0, 1)


async def test_a_restart_while_a_destination_blocks_loses_nothing_and_calls_no_more(
    ministack: str, kinesis: Any, sqs: Any, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1")
    name = unique("restart")
    function.answer = lambda _: function_error()
    destination = on_failure(f"arn:aws:sqs:{aws.REGION}:000000000000:{name}")
    file = write(tmp_path, mapping(stream.arn, function.url, maximumRetryAttempts=0, destinationConfig=destination))
    async with run(file, ministack, "--state", state) as running:
        await running.until(lambda: running.logged("failure record could not be delivered"))
        began = time.monotonic()
        assert await running.stop() == 0
        assert time.monotonic() - began < 8
    queue = await make_queue(sqs, name)
    async with run(file, ministack, "--state", state, "--exit-when-idle", 1) as running:
        assert await running.end() == 0
    assert len(await queue.drain()) == 1
    assert function.seen == [["1"]], "its last answer is kept with the checkpoint"


async def test_endpoints_are_taken_strongest_first(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    """AWS_ENDPOINT_URL_KINESIS, then spec.aws.endpointUrl, then --endpoint-url, then AWS_ENDPOINT_URL."""
    stream = await make_stream(kinesis)
    await stream.put("1")
    nowhere = f"http://127.0.0.1:{free_port()}"
    plain = mapping(stream.arn, function.url)
    with_endpoint = mapping(stream.arn, function.url, aws={"endpointUrl": ministack})
    misled = mapping(stream.arn, function.url, aws={"endpointUrl": nowhere})
    idle = ("--exit-when-idle", 0.5)
    for document, arguments, environment in (
        (misled, ("--endpoint-url", nowhere), {"AWS_ENDPOINT_URL_KINESIS": ministack, "AWS_ENDPOINT_URL": nowhere}),
        (with_endpoint, ("--endpoint-url", nowhere), {"AWS_ENDPOINT_URL": nowhere}),
        (plain, ("--endpoint-url", ministack), {"AWS_ENDPOINT_URL": nowhere}),
        (plain, (), {"AWS_ENDPOINT_URL": ministack}),
    ):
        function.calls.clear()
        from tests.support.headrace import headrace

        command = ("run", "-f", write(tmp_path, document), "--log-format", "json", *idle, *arguments)
        async with headrace(*command, environment=environment) as running:
            assert await running.end() == 0, running.lines
        assert function.seen == [["1"]]


async def test_metrics_and_health_are_served_while_it_runs(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path, metrics_port: int
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1", "2", "3")
    function.answer = fails_on("2")
    file = write(tmp_path, mapping(stream.arn, function.url, batchSize=1, maximumRetryAttempts=1))
    async with run(file, ministack, "--metrics-port", metrics_port) as running:
        await function.until(lambda: function.seen == [["1"], ["2"], ["2"], ["3"]])
        await asyncio.sleep(0.2)
        samples = await scrape(metrics_port)
        labels = f'{{mapping="orders",namespace="shop",source="{stream.arn}"}}'
        for name, value in {
            "polled_events": 3, "filtered_out_events": 0, "invoked_events": 4, "failed_invoke_events": 2,
            "dropped_events": 1, "on_failure_destination_delivered_events": 0, "destination_delivery_failures": 0,
            "invocations": 4, "invocation_errors": 2,
        }.items():  # fmt: skip
            assert samples[f"headrace_{name}_total{labels}"] == value, name
        assert any(name.startswith("headrace_iterator_age_seconds{") and 'shard="shardId' in name for name in samples)
        async with aiohttp.ClientSession() as session:
            for path in ("healthz", "readyz"):
                async with session.get(f"http://127.0.0.1:{metrics_port}/{path}") as answer:
                    assert answer.status == 200
        assert await running.stop() == 0


async def test_a_metrics_port_in_use_is_a_warning(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        file = write(tmp_path, mapping(stream.arn, function.url))
        async with run(file, ministack, "--metrics-port", port, "--exit-when-idle", 0.5) as running:
            assert await running.end() == 0
    assert function.seen == [["1"]]
    (warning,) = running.logged("metrics port")
    assert warning["level"] == "warning"


async def test_no_port_is_opened_unless_asked_for(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1")
    async with run(write(tmp_path, mapping(stream.arn, function.url)), ministack) as running:
        await function.until(lambda: function.calls)
        listening = {
            line.split()[3]
            for table in ("/proc/net/tcp", "/proc/net/tcp6")
            for line in Path(table).read_text().splitlines()[1:]
            if line.split()[9] in sockets_of(running.process.pid)
        }
        assert "0A" not in listening
        assert await running.stop() == 0


def sockets_of(pid: int) -> set[str]:
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


async def test_a_disabled_mapping_does_nothing(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("1")
    file = write(tmp_path, mapping(stream.arn, function.url, enabled=False))
    async with run(file, ministack, "--exit-when-idle", 0.5) as running:
        assert await running.end() == 0
    assert function.calls == []


async def test_children_of_a_split_shard_are_read_after_their_parent(
    kinesis_local: str, function: RecordingFunction, tmp_path: Path
) -> None:
    async with aws.client("kinesis", kinesis_local) as kinesis:
        stream = await make_stream(kinesis)
        for number in range(6):
            await stream.put(f"parent {number}", key=f"key {number}")
        await kinesis.split_shard(
            StreamName=stream.name, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127)
        )
        await asyncio.sleep(1)
        for number in range(6):
            await stream.put(f"child {number}", key=f"key {number}")
    file = write(tmp_path, mapping(stream.arn, function.url, batchSize=2))
    async with run(file, kinesis_local, "--exit-when-idle", 1.5) as running:
        assert await running.end() == 0
    seen = [data for batch in function.seen for data in batch]
    assert seen[:6] == [f"parent {number}" for number in range(6)]
    assert sorted(seen[6:]) == [f"child {number}" for number in range(6)]


async def test_an_idle_run_ends_by_itself_even_when_the_function_never_had_work(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    stream = await make_stream(kinesis)
    function.answer = success
    file = write(tmp_path, mapping(stream.arn, function.url))
    async with run(file, ministack, "--exit-when-idle", 0.2) as running:
        assert await running.end() == 0
    assert function.calls == [], "a function is called with batches only"


async def test_an_endpoint_that_is_no_url_is_refused_before_anything_is_polled(tmp_path: Path) -> None:
    file = write(tmp_path, mapping(ARN + "s", "http://127.0.0.1:1/"))
    for arguments, environment in (
        (("--endpoint-url", "localhost:4566"), {}),
        ((), {"AWS_ENDPOINT_URL": "localhost:4566"}),
        ((), {"AWS_ENDPOINT_URL_SQS": "localhost:4566"}),
    ):
        ended, output = await finished("run", "-f", file, *arguments, environment=environment)
        name = arguments[0] if arguments else next(iter(environment))
        assert (ended, output) == (2, f"{name}: must be an http:// or https:// URL\n")
