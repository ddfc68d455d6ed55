"""Telling it: plain lines, or on a terminal coloured lines above a table that lives. At most eight drawings a second.

Lines are taken in at once and written by a task of its own, so that no observer ever writes, waits or raises.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from headrace.demo.board import Board, Line, ShardRow, Tone

if TYPE_CHECKING:
    from collections.abc import Callable

DRAWING = 0.2
"""Seconds between two drawings."""
PROGRESS = 2.0
"""Seconds between two lines of progress where there is no table."""
WAITING_LINES = 500
_STYLES = {Tone.PLAIN: "", Tone.GOOD: "green", Tone.WARNING: "yellow", Tone.BAD: "red"}
_WHO_WIDTH = 9


@dataclass(slots=True)
class Scene:
    """What the table and the progress lines show besides the board: records written so far, a shard's iterator age."""

    board: Board
    written: Callable[[], int]
    iterator_age: Callable[[str], float]


@dataclass(slots=True)
class Screen:
    """Standard output. Call `tell` from anywhere; `run` writes until it is cancelled, and then what is left."""

    console: Console = field(default_factory=lambda: Console(force_terminal=sys.stdout.isatty(), highlight=False))
    scene: Scene | None = None
    _lines: deque[tuple[float, Line]] = field(default_factory=lambda: deque(maxlen=WAITING_LINES))
    _began: float = 0.0
    _progress_due: float = PROGRESS

    @property
    def live(self) -> bool:
        """Whether there is a terminal that can redraw."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def tell(self, who: str, text: str, tone: Tone = Tone.PLAIN) -> None:
        """Takes a line of the story in."""
        self._lines.append((self._elapsed(), Line(who, text, tone)))

    def write(self, *lines: str, style: str = "") -> None:
        """Writes lines as they are, at once."""
        for line in lines:
            if self.live:
                self.console.print(Text(line, style), soft_wrap=True)
            else:
                print(line, flush=True)  # noqa: T201 - this is what the command is for

    async def run(self) -> None:
        """Writes and draws until cancelled."""
        self._began = asyncio.get_running_loop().time()
        with Live(console=self.console, auto_refresh=False) if self.live else nullcontext() as live:
            try:
                while True:
                    self._draw(live)
                    await asyncio.sleep(DRAWING)
            finally:
                self._draw(live)

    def _draw(self, live: Live | None) -> None:
        while self._lines:
            self._write_line(*self._lines.popleft())
        if self.scene is None or not self.scene.board.rows:
            return
        if live is not None:
            live.update(_table(self.scene, self._elapsed()), refresh=True)
        elif self._elapsed() >= self._progress_due:
            self._progress_due = self._elapsed() + PROGRESS
            self._write_line(self._elapsed(), Line("progress", _progress(self.scene)))

    def _write_line(self, at: float, line: Line) -> None:
        when, who = f"{at:5.1f} s", f"{line.who:<{_WHO_WIDTH}}"
        if self.live:
            told = Table.grid(padding=(0, 1))  # long lines wrap under their own column
            told.add_row(Text(when, "dim"), Text(who, "bold cyan"), Text(line.text, _STYLES[line.tone]))
            self.console.print(told)
        else:
            self.write(f"{when}  {who} {line.text}")

    def _elapsed(self) -> float:
        return asyncio.get_running_loop().time() - self._began if self._began else 0.0


def _progress(scene: Scene) -> str:
    total = _total(scene.board)
    ages = " and ".join(f"{scene.iterator_age(shard_id):.1f} s" for shard_id, _ in scene.board.ordered)
    return (
        f"{scene.written()} records written, {total.acknowledged} acknowledged in {total.calls} calls, "
        f"{total.discarded} discarded; iterator age {ages}"
    )


def _table(scene: Scene, elapsed: float) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="bold", show_footer=True, pad_edge=False, collapse_padding=True)
    total = _total(scene.board)
    table.add_column("shard", footer=f"{elapsed:.0f} s")
    for name, count in (
        ("read", f"{total.read}/{scene.written()}"),
        ("acknowledged", str(total.acknowledged)),
        ("discarded", str(total.discarded)),
        ("calls", str(total.calls)),
        ("iterator\nage", ""),
    ):
        table.add_column(name, footer=count, justify="right")
    table.add_column("state", min_width=17, no_wrap=True)
    for shard_id, row in scene.board.ordered:
        counts = (row.read, row.acknowledged, row.discarded, row.calls)
        age = f"{scene.iterator_age(shard_id):.1f} s"
        table.add_row(row.name, *map(str, counts), age, Text(row.state, _STYLES[row.tone]))
    return table


def _total(board: Board) -> ShardRow:
    rows = board.rows.values()
    return ShardRow(
        "all",
        read=sum(row.read for row in rows),
        acknowledged=sum(row.acknowledged for row in rows),
        discarded=sum(row.discarded for row in rows),
        calls=sum(row.calls for row in rows),
    )
