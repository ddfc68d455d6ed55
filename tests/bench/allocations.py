"""What a file of memray's holds, by the stages of a drain: `python -m tests.bench.allocations FILE`, with memray on the path.

Prints `{"stages": {stage: [allocations, bytes]}, "peak": bytes}`: everything that was allocated, whether or not it was
freed, and the most of it that was held at a time. Arenas are left out, as what lies in them is counted.
"""

from __future__ import annotations

import json
import sys

from memray import AllocatorType, FileReader

from tests.bench.stages import DRAIN, stage_of

NOT_COUNTED = {AllocatorType.FREE, AllocatorType.PYMALLOC_FREE, AllocatorType.MMAP, AllocatorType.MUNMAP}


def main(file: str) -> None:
    stages: dict[int, str] = {}
    counted: dict[str, list[int]] = {}
    with FileReader(file) as reader:
        for record in reader.get_allocation_records():
            if record.allocator in NOT_COUNTED:
                continue
            if record.stack_id not in stages:
                innermost_first = record.stack_trace()
                stack = tuple(f"{file}:{function}" for function, file, _ in reversed(innermost_first))
                stages[record.stack_id] = stage_of(stack, DRAIN)
            held = counted.setdefault(stages[record.stack_id], [0, 0])
            held[0] += record.n_allocations
            held[1] += record.size
        peak = reader.metadata.peak_memory
    print(json.dumps({"stages": counted, "peak": peak}))


if __name__ == "__main__":
    main(sys.argv[1])
