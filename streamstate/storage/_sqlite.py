"""The durable store in one SQLite database.

One connection writes and checkpoints, another one reads; with a write-ahead log neither waits for the other. A lock
file keeps other processes out (S4), and the owner epoch, verified inside every transaction, catches what gets past it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import apsw

from streamstate.errors import CommitFailedError
from streamstate.journal import Outcome
from streamstate.storage._codec import message_of, outcome_of
from streamstate.storage._lock import DirectoryLock
from streamstate.storage._ports import InvocationReader
from streamstate.storage._rows import Batch, Header, OutboxMessage, PositionId, PromiseId, TimerRow
from streamstate.storage._sqlite_errors import storage_error
from streamstate.storage._sqlite_open import (
    DATABASE_FILE,
    begin_epoch,
    make_directory,
    open_reader,
    open_writer,
)
from streamstate.storage._sqlite_read import Reading, SqliteInvocations
from streamstate.storage._sqlite_write import write_batch

_STATE = "SELECT name, value FROM object_state WHERE service = ? AND key = ? ORDER BY name"
_STATES = "SELECT key, name, value FROM object_state WHERE service = ? AND key IN ({keys})"
_POSITIONS = "SELECT subscription, topic, topic_id, partition, next_offset FROM positions"
_TIMERS = (
    "SELECT fire_ms, invocation, kind, idx, attempt FROM timers WHERE (fire_ms, invocation, kind, idx) > (?, ?, ?, ?) "
    "ORDER BY fire_ms, invocation, kind, idx LIMIT ?"
)
_OUTBOX = (
    "SELECT cluster, position, topic, key, value, headers, message_id FROM outbox "
    "WHERE cluster = ? AND position > ? ORDER BY position LIMIT ?"
)
_PROMISE = "SELECT value, failure FROM promises WHERE service = ? AND key = ? AND name = ?"
_WAITERS = "SELECT invocation, idx FROM waiters WHERE awaited = ? ORDER BY ordinal"
_MARK = "UPDATE meta SET clock_ms = ?, seq = ?, outbox_position = ? WHERE epoch = ? RETURNING 1"
_OWN = "SELECT 1 FROM meta WHERE epoch = ?"
_BEFORE_ALL_TIMERS = (-(2**63), "", "", -1)


class SqliteStore:
    """The durable store of one application, in a data directory of its own.

    `SqliteStore.open` makes one. `commit` belongs to one thread at a time, the readers to one other.

    Args:
        directory: the data directory.
        writer: the only connection that writes.
        reader: the connection of all readers.
        lock: held until `close`.
        header: what the store said of itself.
    """

    __slots__ = (
        "_broken",
        "_committing",
        "_header",
        "_invocations",
        "_lock",
        "_marks",
        "_path",
        "_reading",
        "_writer",
        "directory",
    )

    def __init__(
        self, directory: Path, writer: apsw.Connection, reader: apsw.Connection, lock: DirectoryLock, header: Header
    ) -> None:
        self.directory = directory
        self._path = directory / DATABASE_FILE
        self._writer = writer
        self._reading = Reading(reader, self._path)
        self._invocations = SqliteInvocations(self._reading)
        self._lock: DirectoryLock | None = lock
        self._header = header
        # What the table meta holds now; it is written only when one of them grows.
        self._marks = (header.clock_ms, header.seq, header.outbox_position)
        self._broken = ""
        self._committing = threading.Lock()  # close() may come from another thread than the last commit

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open the data directory, or make it; the new owner epoch is durable when this returns.

        Raises:
            StorageInUseError: another process owns it, or this one has it open already.
            StorageFormatError: it was written by another version, or not by streamstate.
            StorageCorruptError: it does not read back as it was written.
            StorageError: it cannot be made, written to or locked.
        """
        directory = directory.absolute()
        path = directory / DATABASE_FILE
        make_directory(directory)
        with ExitStack() as undo:
            lock = DirectoryLock.acquire(directory)
            undo.callback(lock.release)
            writer = open_writer(path)
            undo.callback(writer.close)
            header = begin_epoch(writer, path, lock.previous.epoch)
            lock.record(header.epoch)
            reader = open_reader(path)
            undo.pop_all()
        return cls(directory, writer, reader, lock, header)

    @property
    def header(self) -> Header:
        return self._header

    @property
    def invocations(self) -> InvocationReader:
        return self._invocations

    def commit(self, batch: Batch) -> None:
        """Make a whole batch durable.

        After a failure the store takes no more commits. A commit that failed while it was being made durable may be
        found after the next opening, then as a whole.

        Raises:
            CommitFailedError: nothing of the batch is visible; the cause says why.
        """
        with self._committing:
            if self._broken:
                raise CommitFailedError(f"{self.directory}: no more commits: {self._broken}; start the engine again")
            try:
                self._write(batch)
            except BaseException as error:
                cause = storage_error(error, self._path) if isinstance(error, apsw.Error) else error
                self._broken = f"an earlier one failed ({cause})"
                self._roll_back(error)
                if not isinstance(error, Exception):
                    raise
                raise CommitFailedError(
                    f"{self.directory}: a commit failed and nothing of it is visible: {cause}; "
                    "remove the cause and start the engine again"
                ) from error

    def state(self, service: str, key: str) -> dict[str, bytes]:
        """All state of one object, by name."""
        return dict(self._reading.rows(_STATE, (service, key)))

    def states(self, service: str, keys: Sequence[str]) -> dict[str, dict[str, bytes]]:
        """All state of these objects, by key; an object without state is left out."""
        states: dict[str, dict[str, bytes]] = {}
        for key, name, value in self._reading.rows_of_keys(_STATES, service, keys):
            states.setdefault(key, {})[name] = value
        return states

    def positions(self) -> dict[PositionId, int]:
        return {row[:4]: row[4] for row in self._reading.rows(_POSITIONS)}

    def timers(self, after: tuple[int, str, str, int] | None, limit: int) -> list[TimerRow]:
        rows = self._reading.rows(_TIMERS, (*(after or _BEFORE_ALL_TIMERS), limit))
        return [TimerRow(*row) for row in rows]

    def outbox(self, cluster: str, after: int, limit: int) -> list[OutboxMessage]:
        """Messages of the cluster behind this position, in order."""
        rows = self._reading.rows(_OUTBOX, (cluster, after, limit))
        return self._reading.decode("a message of the outbox", message_of, rows)

    def promise(self, promise: PromiseId) -> Outcome | None:
        found = self._reading.decode(f"the promise {promise}", outcome_of, self._reading.rows(_PROMISE, promise))
        return found[0] if found else None

    def waiters(self, awaited: str) -> list[tuple[str, int]]:
        return [(row[0], row[1]) for row in self._reading.rows(_WAITERS, (awaited,))]

    def close(self) -> None:
        """Move the log into the database file and release the directory; a second call does nothing.

        Raises:
            StorageError: the database file could not be written; everything committed is safe in its log.
        """
        with self._committing:
            if self._lock is None:
                return
            with ExitStack() as last:
                last.callback(self._lock.release)
                last.callback(self._writer.close)
                last.callback(self._reading.close)
                self._lock = None
                was_broken, self._broken = bool(self._broken), "the store was closed"
                self._reading.close()
                if not was_broken:
                    self._checkpoint()

    def _write(self, batch: Batch) -> None:
        cursor = self._writer.cursor()
        clock_ms, seq, outbox_position = self._marks
        clock_ms = max(clock_ms, batch.clock_ms)
        for row in batch.invocations.values():
            if row is not None and row.seq > seq:
                seq = row.seq
        for message in batch.outbox:
            outbox_position = max(outbox_position, message.position)
        marks = (clock_ms, seq, outbox_position)
        cursor.execute("BEGIN IMMEDIATE")
        epoch = self._header.epoch
        # One statement verifies the epoch, whether it writes or not.
        verified = cursor.execute(_OWN, (epoch,)) if marks == self._marks else cursor.execute(_MARK, (*marks, epoch))
        if not verified.fetchall():
            raise CommitFailedError(
                f"{self._path}: its owner epoch is no longer {epoch}: another process has opened the directory"
            )
        write_batch(cursor, batch)
        cursor.execute("COMMIT")
        self._marks = marks

    def _roll_back(self, failed: BaseException) -> None:
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except apsw.Error as error:
            # The transaction ends with the connection; what matters is the first failure.
            failed.add_note(f"the rollback failed too: {error}")

    def _checkpoint(self) -> None:
        try:
            self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            raise storage_error(error, self._path) from error
