"""The rows of the conformance suite: what is given, and then exactly what.

`then` is the contract's notation (K): `[1,2,3]✗` a call with these records and how it was answered (✓ success, ✗ function
error, P(k) record k reported, I an invalid report, T 429, E 503, R 413, † never answered), `×3` three times in a row, and
`→D{RAE,1..3,n3,c3,Unhandled}` a failure record: condition, first to last record, batchSize, approximateInvokeCount,
functionError (`-` without a responseContext), and with tumbling windows `win0–60`. `[1]✓…[9]✓` is a call for each of them.
Records are numbered as they are put.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from headrace.stream.functions import NoResponse, Response
from tests.support.virtual import EPOCH
from tests.support.world import Answered, Put, Reshard, Seen, Stop

Answer = Callable[[Seen], Answered]
RBIF = {"functionResponseTypes": ["ReportBatchItemFailures"]}
BISECT = {"bisectBatchOnFunctionError": True}
WAITS = "its times are part of the claim, and take up to minutes"
INFOS = {"kinesis": "KinesisBatchInfo", "dynamodb": "DDBStreamBatchInfo"}
CONDITIONS = {"RetryAttemptsExhausted": "RAE", "RecordAgeExceeded": "AGE"}


def puts(count: int, at: float = 0.0) -> tuple[Put, ...]:
    """Records "1", "2", …"""
    return tuple(Put(str(number), at) for number in range(1, count + 1))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One behaviour. `core_only` says why it is not played from outside; `ours` how this project differs on purpose."""

    name: str
    claim: str
    rule: str
    """Where the contract says so."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    puts: Sequence[Put] = field(default_factory=lambda: puts(1))
    answer: Answer
    then: str
    ours: str = ""
    at: Sequence[float] = ()
    """Seconds from the start of each call, where they are part of the claim."""
    windows: Sequence[str] = ()
    """`start–end state flags` of each call."""
    checkpoint: int | None = -1
    """The last record decided; -1: the last one of every shard."""
    dropped: int = 0
    filtered: int = 0
    unsent: int = 0
    """Records of calls that were refused before they were sent, counted again at every attempt."""
    result: str | None = "OK"
    """LastProcessingResult; None where it is no part of the claim."""
    seconds: float = 100.0
    core_only: str = ""
    kinesis_only: str = ""
    """Why it is no row of DynamoDB Streams."""
    source: str = "kinesis"
    """kinesis or dynamodb."""
    destination: str | None = "sqs"
    """sqs, sns, s3 or none."""
    away_until: float = float("-inf")
    """Seconds up to which the destination refuses."""
    protocol: str = "lambda"
    shards: Sequence[Reshard] = (Reshard(),)
    stops: Sequence[Stop] = ()
    in_flight: int | None = None
    """Most calls at a time, exactly."""
    side_by_side: bool = False
    """Only the records of a key keep their order."""
    beside: str = ""
    """The row whose stream this one's mapping reads too, in the same process."""

    @property
    def steps(self) -> list[str]:
        """`then`, one step after the other."""
        return list(steps(self.then))


def steps(then: str) -> Iterator[str]:
    """Written out: repetitions repeated, ranges counted out."""
    for token in then.split():
        if "…" in token:
            first, last = token.split("…")
            counted = range(records_of(first)[0], records_of(last)[0] + 1)
            yield from (call_step([number], last.split("]")[1]) for number in counted)
            continue
        step, _, repeated = token.partition("×")
        if step.startswith("["):
            inside, mark = step[1:].split("]")
            step = call_step(_numbers(inside), mark)
        yield from [step] * int(repeated or 1)


def _numbers(inside: str) -> list[int]:
    found: list[int] = []
    for part in filter(None, inside.split(",")):
        first, _, last = part.partition("..")
        found += range(int(first), int(last or first) + 1)
    return found


def call_step(records: Sequence[int], mark: str) -> str:
    return f"[{','.join(map(str, records))}]{mark}"


def records_of(step: str) -> list[int]:
    """The records of a call's step."""
    return _numbers(step[1:].split("]", maxsplit=1)[0])


@dataclass(frozen=True)
class Scale:
    """How the bounds of windows are told: in seconds of the row's, from where its time begins."""

    begins: float = EPOCH
    factor: float = 1.0

    def bounds(self, window: Mapping[str, str]) -> str:
        """`start–end`."""
        ends = (datetime.fromisoformat(window[name]).timestamp() for name in ("start", "end"))
        start, end = (int((at - self.begins) * self.factor) for at in ends)
        return f"{start}–{end}"


VIRTUAL = Scale()


def call_key(seen: Seen) -> tuple[object, ...]:
    """What tells one batch from another: its records, or its window."""
    return (seen.numbers, *(str(seen.event.get(name)) for name in ("window", "shardId", "isWindowTerminatedEarly")))


def discard_step(document: Mapping[str, Any], position: Callable[[str], int], scale: Scale = VIRTUAL) -> str:
    """A failure record in the notation; `position` is a sequence number's place in what was put."""
    context, info = document["requestContext"], batch_info(document)
    parts = [CONDITIONS[context["condition"]]]
    if "startSequenceNumber" in info:
        parts.append("..".join(str(position(info[f"{end}SequenceNumber"])) for end in ("start", "end")))
        parts.append(f"n{info['batchSize']}")
    else:
        assert set(info) == {"shardId", "streamArn"}, "of a window's final call only these"
        parts.append("final")
    parts.append(f"c{context['approximateInvokeCount']}")
    response = document.get("responseContext")
    parts.append("-" if response is None else str(response["functionError"] or "null"))
    if window := document.get("timeWindowInfo"):
        flags = window_flags(window)
        parts.append("win" + scale.bounds(window["window"]) + "".join(f"/{flag}" for flag in flags))
    return f"→D{{{','.join(parts)}}}"


def batch_info(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The extent of a failure record, whatever it came from."""
    (found,) = (value for name, value in document.items() if name in INFOS.values())
    return dict(found)


def info_faults(row: Row, document: Mapping[str, Any]) -> list[str]:
    """What is wrong with the name and the times of a failure record's extent (contract C.1)."""
    if INFOS[row.source] not in document:
        return [f"no {INFOS[row.source]}"]
    form = r".*T\d\d:\d\d:\d\d" + (r"Z" if row.source == "dynamodb" else r"\.\d{3}Z")
    times = {name: value for name, value in batch_info(document).items() if name.startswith("approximateArrival")}
    return [f"{name} is {value}" for name, value in times.items() if not re.fullmatch(form, value)]


def window_flags(window: Mapping[str, Any]) -> list[str]:
    named = {"final": window["isFinalInvokeForWindow"], "early": window["isWindowTerminatedEarly"]}
    return [name for name, holds in named.items() if holds]


def window_of(event: Mapping[str, Any], scale: Scale = VIRTUAL) -> str:
    """What a call tells of its window."""
    state = json.dumps(event["state"], separators=(",", ":"))
    shown = state if len(state) < 100 else "large"
    return " ".join([scale.bounds(event["window"]), shown, *window_flags(event)])


def counts_of(row: Row) -> dict[str, int]:
    """What the metrics must come to, derived from the steps (contract I)."""
    calls = [step for step in row.steps if step.startswith("[")]
    failed = row.unsent
    for step in calls:
        records, mark = records_of(step), step.split("]")[1]
        if mark.startswith("P("):
            failed += len(records) - records.index(int(mark[2:-1]))
        elif mark not in {"✓", "†"}:
            failed += len(records)
    return {
        "invoked": sum(len(records_of(step)) for step in calls),
        "failed_invoke": failed,
        "delivered": sum(int(found[1]) for step in row.steps if (found := re.search(r",n(\d+)", step))),
        "dropped": row.dropped,
        "filtered_out": row.filtered,
    }


# ---- answers


def _json(body: object, **headers: str) -> Response:
    return Response(200, headers, json.dumps(body).encode())


OK = Answered("✓", Response(200, {}, b"null"))
ERROR = Answered(
    "✗", _json({"errorMessage": "boom", "errorType": "RuntimeError"}, **{"x-amz-function-error": "Unhandled"})
)
THROTTLED = Answered("T", Response(429, {}, b""))
UNAVAILABLE = Answered("E", Response(503, {}, b""))
TOO_LARGE = Answered("R", Response(413, {}, b""))
KILLED = Answered("†", Response(200, {}, b"null"), takes=5.0)


def body(mark: str, text: str, status: int = 200, **headers: str) -> Answered:
    return Answered(mark, Response(status, headers, text.encode()))


def slow(answered: Answered, seconds: float) -> Answered:
    return Answered(answered.mark, answered.answer, seconds)


def without(fault: NoResponse, mark: str) -> Answered:
    return Answered(mark, fault)


def script(*answers: Answered) -> Answer:
    """One after the other, then success."""
    return lambda seen: answers[seen.index] if seen.index < len(answers) else OK


def always(answered: Answered) -> Answer:
    return lambda _: answered


def poison(*places: int, answered: Answered = ERROR) -> Answer:
    """Fails if and only if the event holds one of these records."""
    return lambda seen: answered if set(places) & set(seen.records) else OK


def reports(*places: int) -> Answer:
    """Reports those of these records that are in the batch."""

    def answer(seen: Seen) -> Answered:
        failed = [place for place in places if place in seen.records]
        identifiers = [{"itemIdentifier": seen.numbers[seen.records.index(place)]} for place in failed]
        mark = f"P({min(failed)})" if failed else "✓"
        return Answered(mark, _json({"batchItemFailures": identifiers}))

    return answer


def failures(text: str) -> str:
    return '{"batchItemFailures":[' + text + "]}"


# ---- what is compared


def same_order(row: Row, told: Sequence[str]) -> dict[str, list[str]]:
    """Steps as far as their order is part of the claim: all of them, or those of each key."""
    if not row.side_by_side:
        return {"": list(told)}
    keys: dict[str, list[str]] = {}
    for step in told:
        keys.setdefault(row.puts[records_of(step)[0] - 1].key, []).append(step)
    return keys


KEY = re.compile(
    r"aws/lambda/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/(?P<shard>[^/]+)/(?P<day>\d{4}/\d\d/\d\d)/"
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)
"""Where S3 keeps a failure record (contract C.2)."""


def object_faults(key: str, body: Mapping[str, Any], event: Mapping[str, Any]) -> list[str]:
    """What is wrong with an S3 object of a failure record, whose last call had this event."""
    found = KEY.fullmatch(key)
    if found is None:
        return [f"the key is {key}"]
    time = body["timestamp"][:19].replace(":", ".")
    wanted = (batch_info(body)["shardId"], time[:10].replace("-", "/"), time)
    faults = [] if found.groups() == wanted else [f"the key is not of {wanted}: {key}"]
    if not isinstance(body["payload"], str) or json.loads(body["payload"]) != event:
        faults.append(f"the payload is no text of the last event: {body['payload']!r}")
    return faults
