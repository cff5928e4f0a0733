"""What is left of a store when its process dies, and the process that comes next finds.

D1  A crash leaves the files as they are at that instant, in the middle of a transaction too: nothing is rolled back,
    closed or checkpointed in the files that the next process gets.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol

from streamstate.storage import Batch, MemoryStore, SqliteStore, Store

Crash = Callable[[], NoReturn]

# The shared-memory index is left behind: it is rebuilt by the first who opens the directory after its owner's death.
_FILES = ("streamstate.db", "streamstate.db-wal", "lock")
_LOG = "streamstate.db-wal"


class Disk(Protocol):
    """Where a program keeps its data, over all of its processes.

    Attributes:
        statements: how many statements the last whole commit took, its first and last included.
    """

    statements: int

    def open(self) -> Store:
        """The store of the next process."""
        ...

    def commit(self, batch: Batch) -> None:
        """Commit in the store opened last, and count the statements."""
        ...

    def commit_partly(self, batch: Batch, statement: int, crash: Crash) -> None:
        """Commit in the store opened last, and crash in front of this statement of the transaction (0 is its begin)."""
        ...

    def freeze(self) -> None:
        """The process dies now: the next `open` finds what is there at this instant."""
        ...

    def clear(self) -> None:
        """Remove everything."""
        ...


class SqliteDisk:
    """Data directories, one after the other: a crash leaves a copy of the files, and the next process opens that.

    Attributes:
        torn: how many crashes left pages of an unfinished transaction in the log.

    Args:
        home: a directory of its own.
        template: an empty data directory that was opened once.
    """

    def __init__(self, home: Path, template: Path) -> None:
        self._home = home
        self._directory = home / "0"
        self._copies = 0
        self._store: SqliteStore
        self.statements = 0
        self.torn = 0
        _copy(template, self._directory)

    def open(self) -> Store:
        self._store = SqliteStore.open(self._directory)
        return self._store

    def commit(self, batch: Batch) -> None:
        with self._tracing(lambda _statement: None):
            self._store.commit(batch)

    def commit_partly(self, batch: Batch, statement: int, crash: Crash) -> None:
        # So few pages in memory that an unfinished transaction has some of them in the log already.
        self._store._writer.pragma("cache_size", 1)
        logged_bytes = self._log_bytes()

        def crash_there(number: int) -> None:
            if number == statement:
                self.torn += self._log_bytes() != logged_bytes
                crash()

        with self._tracing(crash_there):
            self._store.commit(batch)

    def freeze(self) -> None:
        self._copies += 1
        _copy(self._directory, after := self._home / str(self._copies))
        self._directory = after

    def clear(self) -> None:
        shutil.rmtree(self._home)

    def _log_bytes(self) -> int:
        log = self._directory / _LOG
        return log.stat().st_size if log.exists() else 0

    @contextmanager
    def _tracing(self, before: Callable[[int], None]) -> Iterator[None]:
        count = 0

        def trace(_cursor: Any, _statement: str, _values: Any) -> bool:
            nonlocal count
            count += 1
            before(count - 1)
            return True

        writer = self._store._writer
        writer.exec_trace = trace
        try:
            yield
        finally:
            writer.exec_trace = None
        self.statements = count


class MemoryDisk:
    """The content of the in-memory twin: a commit is prepared, then applied; in its middle it is prepared."""

    statements = 2

    def __init__(self) -> None:
        self._store = MemoryStore()
        # Like the copies of one template: ids that are made of it are the same in every run.
        self._store._content.directory_id = "twin"

    def open(self) -> Store:
        self._store = self._store.reopen()
        return self._store

    def commit(self, batch: Batch) -> None:
        self._store.commit(batch)

    def commit_partly(self, batch: Batch, statement: int, crash: Crash) -> None:
        if statement:
            self._store._content.prepare(batch)
        crash()

    def freeze(self) -> None:
        """A dead process changes nothing: what it had is what is there."""

    def clear(self) -> None:
        """Gone with the last reference."""


def _copy(directory: Path, to: Path) -> None:
    to.mkdir(parents=True)
    for name in _FILES:
        if (directory / name).exists():
            shutil.copyfile(directory / name, to / name)
