"""Which part of the work a stack of calls belongs to, and what each part adds up to. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Stack = tuple[str, ...]
"""Frames as `path/file.py:function`, the outermost first."""


@dataclass(frozen=True)
class Stage:
    """A part of the work: a stack is of the first stage that knows one of its frames.

    `marks` are frames without the beginning of their paths; one that ends in a colon stands for every function of a file.
    """

    name: str
    marks: tuple[str, ...]

    def knows(self, frame: str) -> bool:
        """Whether the frame is one of the marks."""
        file, _, _ = frame.rpartition(":")
        return any(f"/{file}:".endswith(f"/{mark}") or f"/{frame}".endswith(f"/{mark}") for mark in self.marks)


Stages = tuple[Stage, ...]

START, WAITING, REST = "start", "waiting", "the event loop and its tasks"
"""What is done once, what waits, and what no stage knows."""
LEFT_OUT = (START, WAITING)

_LOOP = "base_events.py:_run_once"
_ONCE = Stage(START, ("stream/aws.py:open", "httpsession.py:_build_ssl_contexts"))
_WAITS = Stage(WAITING, ("selectors.py:select", "concurrent/futures/thread.py:_worker"))
_TOLD = Stage("what is told of it: metrics, health, log", ("stream/events.py:observe",))

DRAIN: Stages = (
    _ONCE,
    _TOLD,
    Stage("GetRecords: the answer decoded", ("stream/answers.py:_handle_json_body", "bare.py:decoded")),
    Stage("records, as they stand in the event", ("sources/kinesis.py:to_records", "event.py:event_of")),
    Stage("GetRecords: signed, sent, its headers", ("sources/kinesis.py:call", "bare.py:kinesis")),
    Stage("sockets read, HTTP parsed", ("selector_events.py:_read_ready",)),
    Stage("the call's body", ("stream/encodings.py:encode", "bare.py:encoded")),
    Stage(
        "the call: POST, its headers and time-outs",
        ("functions/http.py:invoke", "bare.py:call", "client_reqrep.py:write_bytes", "selector_events.py:_write_ready"),
    ),
    Stage("the checkpoint, committed to SQLite", ("stream/checkpoints.py:", "stores/sqlite.py:")),
    Stage("lanes and batches", ("stream/lanes.py:", "stream/batching.py:", "stream/poller.py:note")),
    Stage("request id, outcome", ("stream/delivering.py:_invoke",)),
    Stage(
        "what is decided, step by step", ("stream/delivering.py:", "stream/retry.py:", "stream/poller.py:_work_lane")
    ),
    Stage("the reading besides, and what was read let go", ("sources/kinesis.py:", "stream/poller.py:_read")),
    _WAITS,
)
"""Of a stream that is full: a stage comes before those that call it."""

IDLE: Stages = (
    _ONCE,
    _TOLD,
    Stage("botocore: signing", ("signers.py:handler",)),
    Stage("botocore: the endpoint's rules", ("client.py:_resolve_endpoint_ruleset",)),
    Stage("botocore: other hooks", ("hooks.py:_emit",)),
    Stage(
        "aiohttp: request, answer, sockets",
        ("aiohttp/client.py:_request", "client_reqrep.py:", "client_proto.py:", "selector_events.py:_read_ready"),
    ),
    Stage("aiobotocore: what sends", ("httpsession.py:send", "stream/aws.py:send")),
    Stage(
        "botocore: the request put together",
        ("client.py:_convert_to_request_dict", "endpoint.py:prepare_request", "endpoint.py:create_request"),
    ),
    Stage("the answer parsed", ("parsers.py:parse",)),
    Stage(
        "aiobotocore: the rest",
        ("aiobotocore/client.py:", "aiobotocore/endpoint.py:", "aiobotocore/context.py:wrapper"),
    ),
    Stage(
        "Headrace: what reads, and its time-outs",
        ("stream/poller.py:", "stream/mapping.py:", "stream/waiting.py:", "stream/aws.py:", "sources/kinesis.py:"),
    ),
    _WAITS,
)
"""Of a stream without records: one read."""


def stage_of(stack: Stack, stages: Stages) -> str:
    """The first stage that knows one of the frames; REST, or START of what is outside of the event loop."""
    place = min((_place(frame, stages) for frame in stack), default=len(stages))
    if place < len(stages):
        return stages[place].name
    return REST if any(frame.endswith(_LOOP) for frame in stack) else START


@cache
def _place(frame: str, stages: Stages) -> int:
    return next((place for place, stage in enumerate(stages) if stage.knows(frame)), len(stages))


def tally(stacks: Iterable[tuple[Stack, int]], stages: Stages) -> dict[str, int]:
    """What the stacks of each stage count together, in the order of the stages; the rest at the end."""
    counted: Counter[str] = Counter()
    for stack, count in stacks:
        counted[stage_of(stack, stages)] += count
    return {name: counted[name] for name in names(stages)}


def names(stages: Stages) -> tuple[str, ...]:
    """Every stage there can be."""
    return (*(stage.name for stage in stages), REST)


def shares(counted: Mapping[str, float]) -> dict[str, float]:
    """The part of each in the sum, between 0 and 1, without LEFT_OUT; empty where nothing was counted."""
    left = {name: count for name, count in counted.items() if name not in LEFT_OUT}
    total = sum(left.values())
    return {name: count / total for name, count in left.items()} if total else {}


def parse(raw: str) -> list[tuple[Stack, int]]:
    """py-spy's raw format: a line for each stack, `frame;frame;… samples`, a frame being `Class.function (file.py:line)`."""
    found = []
    for line in filter(None, raw.splitlines()):
        stack, _, count = line.rpartition(" ")
        found.append((tuple(map(_frame, stack.split(";"))), int(count)))
    return found


def _frame(told: str) -> str:
    function, _, place = told.rpartition(" (")
    return f"{place.rpartition(':')[0]}:{function.rpartition('.')[2]}"
