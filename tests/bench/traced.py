"""A module under memray from SIGUSR2 on: `python -m tests.bench.traced FILE MODULE OPTIONS…`, with memray on the path.

What a start allocates, a hundred times what is to be told apart, is not in the file.
"""

from __future__ import annotations

import atexit
import runpy
import signal
import sys

from memray import Tracker


def main(file: str, module: str, *options: str) -> None:
    tracker = Tracker(file, trace_python_allocators=True)

    def begin(*_: object) -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        tracker.__enter__()
        atexit.register(tracker.__exit__, None, None, None)

    signal.signal(signal.SIGUSR2, begin)
    sys.argv = [module, *options]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
