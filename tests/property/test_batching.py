"""A buffer with and without tumbling windows, under any order of reads, waits, calls and their outcomes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.records import Record, Window
from headrace.stream.batching import EXPIRY_MARGIN, BatchLimits, Buffer
from headrace.stream.encodings import LAMBDA_EVENT
from headrace.stream.windows import IDLE_GRACE, Tumbling, encoding

ARN, SHARD = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders", "shardId-000000000000"


class BufferMachine(RuleBasedStateMachine):
    """Records go in with arrivals that may run a little backwards; batches and final calls come out."""

    @initialize(
        size=st.integers(1, 4),
        window=st.sampled_from([0.0, 5.0, 40.0]),
        tumbling=st.sampled_from([0, 7, 60]),
        age=st.sampled_from([None, 60.0]),
        room=st.sampled_from([1_400, 6_000_000]),
    )
    def begin(self, size: int, window: float, tumbling: int, age: float | None, room: int) -> None:
        self.now = 1_000.0
        self.limits = BatchLimits(size, window, age, room, tumbling=tumbling)
        self.buffer = Buffer(self.limits, self.now, Tumbling(tumbling))
        self.added: list[Record] = []
        self.taken: list[Record] = []
        self.closed: list[Window] = []
        self.window_began = self.now

    @precondition(lambda self: not self.buffer.ended)
    @rule(ages=st.lists(st.floats(0, 3), min_size=1, max_size=6), padding=st.integers(0, 300))
    def read(self, ages: list[float], padding: int) -> None:
        records = tuple(
            Record(str(len(self.added) + n), self.now - age, "k", b'"' + b"x" * padding + b'"')
            for n, age in enumerate(ages, start=1)
        )
        if not len(self.buffer) and self.now >= self.window_began + self.limits.window:
            self.window_began = self.now
        self.buffer.add(records, self.now)
        self.added += records

    @rule(seconds=st.floats(0.1, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def find_the_tip(self) -> None:
        if not len(self.buffer):
            self.buffer.windows.read_to_tip(self.now)

    @rule()
    def end(self) -> None:
        self.buffer.end()

    @rule(opened=st.booleans())
    def take(self, opened: bool) -> None:
        before = self.buffer.windows.open
        following = self.buffer.first
        batch, window = self.buffer.take_for_call(self.now)
        if batch:
            self.check_batch(batch, window)
            self.taken += batch
            if window is not None and opened:
                self.buffer.windows.open = replace(window, state=b"{}")
            self.buffer.restart_window(self.now)
            self.window_began = self.now
        elif window is not None:
            self.check_final(window, before, following)
            self.closed.append(window)
            self.buffer.windows.open = None
        elif following is not None:
            self.check_wait(following)

    def check_batch(self, batch: tuple[Record, ...], window: Window | None) -> None:
        assert len(batch) <= self.limits.size
        body = encoding(window, SHARD, ARN).encode(batch)
        assert len(batch) == 1 or len(body) <= self.limits.event_limit
        assert (window is None) == (self.limits.tumbling == 0)
        if window is not None:
            assert all(one.arrival < window.end for one in batch)
            assert not window.final
            assert window.start % self.limits.tumbling == 0

    def check_final(self, window: Window, before: Window | None, following: Record | None) -> None:
        assert before is not None
        assert replace(before, final=True) == window
        if following is not None:
            assert following.arrival >= window.end
        else:
            assert self.buffer.ended or self.now >= window.end + IDLE_GRACE

    def check_wait(self, following: Record) -> None:
        """A batch that is held back is not full, its window is open, and nothing in it is about to be too old."""
        assert len(self.buffer) < self.limits.size
        assert not self.buffer.ended
        assert self.now < self.window_began + self.limits.window
        if self.limits.maximum_age is not None:
            assert self.now < following.arrival + self.limits.maximum_age - EXPIRY_MARGIN
        if self.limits.tumbling:
            assert self.now < self.buffer.windows.end_of(following)

    @invariant()
    def records_leave_once_and_in_order(self) -> None:
        if hasattr(self, "added"):
            assert self.taken == self.added[: len(self.taken)]
            assert len(self.buffer) == len(self.added) - len(self.taken)

    def teardown(self) -> None:
        """Once the shard has ended everything leaves, and no window stays open."""
        if not hasattr(self, "added"):
            return
        self.buffer.end()
        while self.buffer.first is not None or self.buffer.windows.open is not None:
            self.take(opened=True)
        assert self.taken == self.added


TestBuffer = BufferMachine.TestCase


def test_the_plain_event_is_that_of_no_window() -> None:
    assert encoding(None, SHARD, ARN) is LAMBDA_EVENT
