"""`python -m headrace` and the `headrace` command."""

from __future__ import annotations

import os
import signal
import sys

SERVING = frozenset({"run", "poller", "operator"})


def main() -> None:
    """Entry point. A signal that comes while the modules are still being loaded has nothing in flight to wait for.

    It ends the process where it is: an exception of the handler could be raised, and lost, in a callback of the import.
    """
    if SERVING.intersection(sys.argv[1:2]):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os._exit(0))
        # structlog would load it for tracebacks that are not written so here: 3 MB, and 70 ms of every start.
        sys.modules["rich"] = None  # type: ignore[assignment] # the import system's own mark of what is not there
    from headrace.cli import cli  # noqa: PLC0415 - after the signals

    cli()


if __name__ == "__main__":
    main()
