"""A function as a plain HTTP server, on the standard library alone. A record that is no JSON object is its poison.

POST, any path: one event in Lambda's form. GET /received: the calls so far. GET /healthz.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
import time
from collections import OrderedDict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

REMEMBERED = 10_000
WORK_SECONDS = float(os.environ.get("WORK_SECONDS", "0"))
"""Seconds that a call takes, to see what happens with slow ones."""


def work(record: dict[str, Any]) -> None:
    """What the function is for; raises on a record it cannot use."""
    order = json.loads(base64.b64decode(record["kinesis"]["data"]))
    if not isinstance(order, dict):
        raise TypeError("an order is an object")


def handle(event: dict[str, Any]) -> dict[str, Any]:
    """Works on record after record and reports the first that fails: from it on the batch is sent again."""
    for record in event["Records"]:
        try:
            work(record)
        except (ValueError, TypeError) as error:
            print(f"{record['eventID']} failed: {error}", flush=True)
            return {"batchItemFailures": [{"itemIdentifier": record["kinesis"]["sequenceNumber"]}]}
    return {"batchItemFailures": []}


class Ledger:
    """What was called and what was answered. In memory: where work has effects, it belongs into their transaction."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._calls: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)

    def called(self, call: dict[str, Any]) -> None:
        with self._lock:
            self._calls.append(call)

    def answered_before(self, request_id: str) -> dict[str, Any] | None:
        with self._lock:
            return self._answers.get(request_id)

    def answered(self, request_id: str, answer: dict[str, Any]) -> None:
        """Only what succeeded is kept: a failed batch comes again under the same id and is to be tried again."""
        if answer["batchItemFailures"]:
            return
        with self._lock:
            self._answers[request_id] = answer
            if len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)

    def calls(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self._calls)


class Server(ThreadingHTTPServer):
    """Answers each caller in a thread of its own and, once told to stop, waits for the calls that are under way."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, Handler)
        self.ledger = Ledger()
        self._idle = threading.Condition()
        self._busy = 0

    def __enter__(self) -> Self:
        return self

    def begin(self) -> None:
        with self._idle:
            self._busy += 1

    def end(self) -> None:
        with self._idle:
            self._busy -= 1
            self._idle.notify_all()

    def drain(self, seconds: float) -> None:
        with self._idle:
            self._idle.wait_for(lambda: not self._busy, seconds)


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1, so that connections are kept."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        self.server.begin()
        try:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(200, self._invoke(event))
        finally:
            self.server.end()

    def do_GET(self) -> None:
        match self.path:
            case "/received":
                self._answer(200, self.server.ledger.calls())
            case "/healthz":
                self._answer(200, {})
            case _:
                self._answer(404, {})

    def _invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        ledger, request_id = self.server.ledger, self.headers["Headrace-Request-Id"]
        ledger.called(
            {
                "at": time.time(),
                "requestId": request_id,
                "attempt": self.headers["Headrace-Attempt"],
                "mapping": self.headers["Headrace-Mapping"],
                "shard": self.headers["Headrace-Shard"],
                "records": event["Records"],
            }
        )
        answer = ledger.answered_before(request_id)
        if answer is None:
            time.sleep(WORK_SECONDS)
            answer = handle(event)
            ledger.answered(request_id, answer)
        return answer

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Probes and calls are not worth a line each."""


def main() -> None:
    with Server(("", int(os.environ.get("PORT", "8080")))) as server:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        server.serve_forever()
        server.drain(20)


if __name__ == "__main__":
    main()
