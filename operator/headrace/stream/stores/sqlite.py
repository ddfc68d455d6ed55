"""Checkpoints in an SQLite file, for `headrace run`; in memory without one.

Each write is committed before it returns (WAL: a killed process loses nothing, a power cut at worst the last writes,
which repeats records and loses none). The file is locked while it is open, so that two runs never share one state.

Whatever may wait for the disk runs on a thread: opening, reading, and now and then the move of the log into the file.
A write between only appends to the log, in memory of the system's: a tenth of the work that a thread's waking is.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from headrace.errors import Reason, StoreError
from headrace.records import Checkpoint, Lease, Shard, Start
from headrace.stream.stores.encoding import decode_lanes, decode_window, encode_lanes, encode_window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")

LOG_PAGES = 1_000
"""About how many pages of 4 KB the log grows to before it is moved into the file."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS start (
    mapping TEXT PRIMARY KEY, timestamp REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoint (
    mapping TEXT, shard_id TEXT, sequence_number TEXT, finished INTEGER NOT NULL, lanes TEXT NOT NULL,
    PRIMARY KEY (mapping, shard_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS incarnation (
    mapping TEXT PRIMARY KEY, created REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tumbling_window (
    mapping TEXT, shard_id TEXT, bounds TEXT NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (mapping, shard_id)
) WITHOUT ROWID;
"""


class SqliteFile:
    """One open state file, shared by the mappings of a run; its thread keeps the event loop free."""

    def __init__(self, path: Path | None) -> None:
        self._name = str(path) if path is not None else ":memory:"
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None
        self._last: Future[Any] | None = None
        """What the thread was given last; once that is done the connection is free for another one."""
        self._log = 0

    async def open(self) -> None:
        """Opens and locks the file, making it if needed; raises StoreError."""
        await self.run(self._open)

    def _open(self) -> None:
        self._connection = sqlite3.connect(self._name, timeout=1.0, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._connection.executescript("BEGIN IMMEDIATE;" + _SCHEMA + "COMMIT;")

    async def run(self, work: Callable[[], T]) -> T:
        """Runs one piece of work on the file's thread; a cancelled caller does not stop it half-way."""
        self._last = self._thread.submit(work)
        with self._told():
            return await asyncio.shield(asyncio.wrap_future(self._last))

    async def write(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        """Commits several statements to the log, all or none, here or behind what the thread is at; StoreError."""
        if self._last is not None and not self._last.done():
            await self.run(lambda: self.transact(*statements))
        else:
            with self._told():
                self.transact(*statements)
        self._log += (
            1 + sum(len(value) for _, values in statements for value in values if isinstance(value, bytes)) // 4096
        )
        if self._log >= LOG_PAGES:
            self._log = 0
            await self.run(lambda: self.execute("PRAGMA wal_checkpoint(PASSIVE)"))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorname", type(error).__name__)
            hint = (
                "another headrace run is using it" if code.startswith("SQLITE_BUSY") else "check the path and the disk"
            )
            raise StoreError(Reason.API_ERROR, f"the state file {self._name}: {code}; {hint}") from error

    def transact(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        """Several statements, all or none."""
        self.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in statements:
                self.execute(statement, *values)
        except BaseException:
            self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """One statement."""
        if self._connection is None:
            raise sqlite3.ProgrammingError(self._name)
        return self._connection.execute(statement, values).fetchall()

    async def aclose(self) -> None:
        """Closes the file and ends the thread."""
        if self._connection is not None:
            await self.run(self._connection.close)
        self._thread.shutdown()


class SqliteStore:
    """The rows of one mapping; `identity` tells it from others in the same file: its UUID and its source."""

    write_interval = 0.0

    def __init__(self, file: SqliteFile, identity: str) -> None:
        self._file = file
        self._identity = identity
        self._without_window: set[str] = set()
        """Shards whose window is known to have no row."""

    async def start(self) -> Start | None:
        """The pinned start."""
        query = "SELECT timestamp FROM start WHERE mapping = ?"
        rows = await self._file.run(lambda: self._file.execute(query, self._identity))
        return Start(_timestamp(rows[0][0])) if rows else None

    async def pin(self, start: Start) -> Start:
        """First come, first kept."""
        insert = "INSERT OR IGNORE INTO start VALUES (?, ?)"
        await self._file.run(lambda: self._file.execute(insert, self._identity, start.timestamp))
        return await self.start() or start

    async def adopt(self, created: float, restart: Start) -> bool:
        """In one transaction: what is stored for another stream of this name goes, and the new start stands."""
        query, key = "SELECT created FROM incarnation WHERE mapping = ?", self._identity
        rows = await self._file.run(lambda: self._file.execute(query, key))
        another = bool(rows) and rows[0][0] != created
        statements: list[tuple[str, tuple[object, ...]]] = [
            ("INSERT OR REPLACE INTO incarnation VALUES (?, ?)", (key, created))
        ]
        if another:
            statements += [
                ("DELETE FROM checkpoint WHERE mapping = ?", (key,)),
                ("DELETE FROM tumbling_window WHERE mapping = ?", (key,)),
                ("INSERT OR REPLACE INTO start VALUES (?, ?)", (key, restart.timestamp)),
            ]
        if another or not rows:
            await self._file.run(lambda: self._file.transact(*statements))
        return another

    async def load(self, shards: Sequence[Shard], _makes: Callable[[str], bool] | None = None) -> Mapping[str, Lease]:
        """Every row of the mapping, and a lease without one for every other shard: nobody else is there to hold any."""
        query = "SELECT shard_id, sequence_number, finished, lanes FROM checkpoint WHERE mapping = ?"
        rows = await self._file.run(lambda: self._file.execute(query, self._identity))
        leases = {shard.shard_id: Lease(shard) for shard in shards}
        for shard_id, *columns in rows:
            shard = leases[str(shard_id)].shard if shard_id in leases else Shard(str(shard_id))
            leases[shard.shard_id] = Lease(shard, _checkpoint(*columns))
        return leases

    async def take(self, shard_id: str) -> Checkpoint | None:
        """The row with its window; nobody else can have changed it."""
        query = (
            "SELECT sequence_number, finished, lanes, bounds, state FROM checkpoint"
            " LEFT JOIN tumbling_window USING (mapping, shard_id) WHERE mapping = ? AND shard_id = ?"
        )
        rows = await self._file.run(lambda: self._file.execute(query, self._identity, shard_id))
        return _checkpoint(*rows[0]) if rows else Checkpoint()

    async def save(self, shard_id: str, checkpoint: Checkpoint) -> None:
        """Replaces the shard's row, and that of its window."""
        replace = "INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?, ?, ?)"
        key = (self._identity, shard_id)
        lanes = orjson.dumps(encode_lanes(checkpoint.lanes)).decode()
        row = (*key, checkpoint.sequence_number, int(checkpoint.finished), lanes)
        if checkpoint.window is None and shard_id in self._without_window:
            await self._file.write((replace, row))
            return
        self._without_window.discard(shard_id)
        await self._file.write(_window_row(key, checkpoint), (replace, row))
        if checkpoint.window is None:
            self._without_window.add(shard_id)

    async def release(self, shard_id: str) -> None:
        """Nothing: a row has no holder."""

    async def aclose(self) -> None:
        """Nothing of its own; the file is closed by whoever opened it."""


def _window_row(key: tuple[str, str], checkpoint: Checkpoint) -> tuple[str, tuple[object, ...]]:
    window = checkpoint.window
    if window is None:
        return "DELETE FROM tumbling_window WHERE mapping = ? AND shard_id = ?", key
    bounds = orjson.dumps(encode_window(window)).decode()
    return "INSERT OR REPLACE INTO tumbling_window VALUES (?, ?, ?, ?)", (*key, bounds, window.state or b"")


def _checkpoint(
    number: object, finished: object, lanes: object, bounds: object = None, state: object = None
) -> Checkpoint:
    return Checkpoint(
        None if number is None else str(number),
        bool(finished),
        decode_lanes(orjson.loads(str(lanes))),
        decode_window(orjson.loads(str(bounds)), state) if isinstance(state, bytes) else None,
    )


def _timestamp(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
