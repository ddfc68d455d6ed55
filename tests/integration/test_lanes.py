"""Parallelization factor through `headrace run` (contract B.3, K.5)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.aws import make_stream
from tests.support.function import RecordedCall, RecordingFunction, fails_on, function_error, success
from tests.support.headrace import mapping, run, write

IDLE = ("--exit-when-idle", 1.5)


async def slowly(call: RecordedCall) -> web.StreamResponse:
    await asyncio.sleep(0.02)
    return success(call)


async def test_one_key_is_never_called_twice_at_a_time(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    """Row 43."""
    stream = await make_stream(kinesis)
    await stream.put(*map(str, range(20)), key="the only one")
    function.answer = slowly
    file = write(tmp_path, mapping(stream.arn, function.url, batchSize=2, parallelizationFactor=10))
    async with run(file, ministack, *IDLE) as running:
        assert await running.end() == 0
    assert function.most_in_flight == 1
    assert [data for batch in function.seen for data in batch] == list(map(str, range(20)))


async def test_many_keys_go_side_by_side_each_in_order(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path
) -> None:
    """Row 44."""
    stream = await make_stream(kinesis)
    for number in range(200):
        await stream.put(f"{number % 100}:{number // 100}", key=f"key {number % 100}")
    function.answer = slowly
    file = write(tmp_path, mapping(stream.arn, function.url, batchSize=5, parallelizationFactor=10))
    async with run(file, ministack, *IDLE) as running:
        assert await running.end() == 0
    assert 2 < function.most_in_flight <= 10
    seen = [data for batch in function.seen for data in batch]
    assert len(seen) == len(set(seen)) == 200
    for key in range(100):
        assert seen.index(f"{key}:0") < seen.index(f"{key}:1")


async def test_a_stuck_lane_holds_up_only_itself_and_a_restart_forgets_neither_side(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    stream = await make_stream(kinesis)
    await stream.put("poison", key="a")
    for number in range(40):
        await stream.put(str(number), key=f"key {number}")
    function.answer = fails_on("poison")
    file = write(tmp_path, mapping(stream.arn, function.url, batchSize=1, parallelizationFactor=4))

    def passed() -> set[str]:
        return {data for batch in function.seen for data in batch} - {"poison"}

    async with run(file, ministack, "--state", state) as running:
        await function.until(lambda: len(passed()) >= 20 and function.seen.count(["poison"]) >= 3)
        await asyncio.sleep(0.5)
        await running.kill()
    before = passed()
    function.calls.clear()
    function.answer = success
    async with run(file, ministack, "--state", state, *IDLE) as running:
        assert await running.end() == 0
    assert function.seen.count(["poison"]) == 1
    assert passed() | before == set(map(str, range(40)))
    assert len(passed() & before) <= 4, "at most the batch in flight per lane comes again"


async def test_a_restart_renews_no_poison_records_budget(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    """Each kill meets a call in flight, whatever the pause before it was: that call is repeated, under its number."""
    stream = await make_stream(kinesis)
    await stream.put("poison", "2")
    answered = 0

    async def answer(call: RecordedCall) -> web.StreamResponse:
        if int(call.headers["Headrace-Attempt"]) > answered:
            await asyncio.Event().wait()
        return function_error() if call.data == ["poison"] else success(call)

    function.answer = answer
    spec = mapping(
        stream.arn, function.url, batchSize=1, maximumRetryAttempts=3,
        retryBackoff={"initialSeconds": 0.1, "maximumSeconds": 0.1},
    )  # fmt: skip
    file = write(tmp_path, spec)

    def attempts() -> list[int]:
        return [int(call.headers["Headrace-Attempt"]) for call in function.calls if call.data == ["poison"]]

    def held() -> bool:
        return attempts()[-1:] == [answered + 1]

    for life in (1, 2):
        answered = life
        async with run(file, ministack, "--state", state) as running:
            await function.until(held)
            await running.kill()
    answered = 4
    async with run(file, ministack, "--state", state, *IDLE) as running:
        assert await running.end() == 0
    assert attempts() == [1, 2, 2, 3, 3, 4]
    assert function.seen[-1] == ["2"]
    assert len({call.headers["Headrace-Request-Id"] for call in function.calls if call.data == ["poison"]}) == 1


async def test_a_changed_factor_keeps_order_per_key_behind_a_stuck_lane(
    ministack: str, kinesis: Any, function: RecordingFunction, tmp_path: Path, state: Path
) -> None:
    stream = await make_stream(kinesis)
    for number in range(30):
        await stream.put(f"{number % 6}:{number // 6}", key=f"key {number % 6}")
    stuck = "0:0"

    def answer(call: RecordedCall) -> web.StreamResponse:
        return function_error() if stuck in call.data else success(call)

    function.answer = answer

    def seen() -> list[str]:
        return [data for call in function.calls for data in call.data if stuck not in call.data]

    def file(factor: int) -> Path:
        return write(tmp_path, mapping(stream.arn, function.url, batchSize=1, parallelizationFactor=factor))

    for factor in (3, 5):
        async with run(file(factor), ministack, "--state", state) as running:
            await running.until(lambda: running.logged("shard started"))
            await asyncio.sleep(2)
            assert await running.stop() == 0
    assert "0:1" not in seen(), "a key waits behind its own record"
    assert {"1:4", "2:4"} & set(seen()), "the others go on"
    function.answer = success
    stuck = "nothing"
    async with run(file(5), ministack, "--state", state, *IDLE) as running:
        assert await running.end() == 0
    order = seen()
    for key in range(6):
        mine = [data for data in order if data.startswith(f"{key}:") and not data.startswith("0:0")]
        assert mine == sorted(set(mine)), f"key {key}: {mine}"
