"""A function in a process of its own that costs next to nothing: it counts records, and answers.

`GET /_bench/…` asks about it; every other request is a call. A record is where the mark stands, `"eventID"`, which no base64 holds.

| request | answer |
|---|---|
| `/_bench/until?records=N` | once N records have come, all of them answered: `{"records", "calls", "first", "last"}` |
| `/_bench/stats` | the same at once |
| `/_bench/calls?after=N` | with `--keep`: `[[seconds, body in base64], …]` of the calls from the Nth on |
| `/_bench/reset` | counts from 0 |

`first` and `last` are when the first call came and the last was answered, by CLOCK_MONOTONIC in seconds, which all processes share.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from argparse import ArgumentParser
from dataclasses import asdict, dataclass, field
from urllib.parse import parse_qs, urlsplit

from tests.bench.wire import Connection, listen

MARK = b'"eventID"'


@dataclass
class Counted:
    """What has come since the last reset."""

    records: int = 0
    calls: int = 0
    first: float | None = None
    last: float | None = None


@dataclass
class Function:
    """How it answers, and what it has seen."""

    body: bytes
    delay: float
    stuck: bool
    keep: bool
    mark: bytes = MARK
    counted: Counted = field(default_factory=Counted)
    kept: list[tuple[float, bytes]] = field(default_factory=list)
    waiting: list[tuple[int, Call]] = field(default_factory=list)

    def answered(self, records: int) -> None:
        counted = self.counted
        counted.records += records
        counted.last = time.monotonic()
        for at_least, asker in self.waiting[:]:
            if counted.records >= at_least:
                self.waiting.remove((at_least, asker))
                asker.tell(counted)


class Call(Connection):
    """One connection of a consumer, or of who asks."""

    function: Function

    def __init__(self) -> None:
        super().__init__()
        self._records = 0
        self._tail = b""
        self._body = bytearray()

    def received(self, buffer: bytearray, start: int, end: int) -> None:
        mark = self.function.mark
        overlap = len(mark) - 1
        self._records += buffer.count(mark, start, end)
        self._records += (self._tail + buffer[start : min(end, start + overlap)]).count(mark)
        self._tail = (self._tail + buffer[max(start, end - overlap) : end])[-overlap:]
        if self.function.keep:
            self._body += memoryview(buffer)[start:end]

    def respond(self) -> None:
        path = self.request.split(" ", 2)[1]
        records, self._records, self._tail = self._records, 0, b""
        if path.startswith("/_bench/"):
            self._ask(path)
            return
        function, now = self.function, time.monotonic()
        function.counted.calls += 1
        if function.counted.first is None:
            function.counted.first = now
        if function.keep:
            function.kept.append((now, bytes(self._body)))
            self._body.clear()
        if function.stuck:
            return
        if function.delay:
            asyncio.get_running_loop().call_later(function.delay, self._done, records)
        else:
            self._done(records)

    def _done(self, records: int) -> None:
        if not self.transport.is_closing():
            self.answer(self.function.body)
            self.function.answered(records)

    def _ask(self, path: str) -> None:
        parts = urlsplit(path)
        asked = parse_qs(parts.query)
        function = self.function
        match parts.path.removeprefix("/_bench/"):
            case "until" if function.counted.records < (wanted := int(asked["records"][0])):
                function.waiting.append((wanted, self))
            case "calls":
                calls = function.kept[int(asked["after"][0]) :]
                self.answer(json.dumps([[at, base64.b64encode(body).decode()] for at, body in calls]).encode())
            case "reset":
                function.counted, function.waiting, function.kept = Counted(), [], []
                self.tell(function.counted)
            case _:
                self.tell(function.counted)

    def tell(self, counted: Counted) -> None:
        if not self.transport.is_closing():
            self.answer(json.dumps(asdict(counted)).encode())


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds until an answer")
    parser.add_argument("--answer", default="", help="the body of every answer")
    parser.add_argument("--stuck", action="store_true", help="never answers a call")
    parser.add_argument("--keep", action="store_true", help="keeps the bodies of all calls")
    parser.add_argument("--mark", default=MARK.decode(), help="what every record holds once")
    options = parser.parse_args()
    Call.function = Function(options.answer.encode(), options.delay, options.stuck, options.keep, options.mark.encode())
    listen(Call)


if __name__ == "__main__":
    main()
