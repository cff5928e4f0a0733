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
import msgspec

from streamstate.errors import CommitFailedError, StorageError
from streamstate.journal import Outcome
from streamstate.storage._admission import admit, settle
from streamstate.storage._backup import BackupFacts, Progress, take_backup
from streamstate.storage._checksums import checksum_vfs
from streamstate.storage._codec import message_of, outcome_of
from streamstate.storage._guard import (
    Commits,
    Guard,
    check_file_sum,
    check_log_is_there,
    commits_in_file,
    read_guard,
    sum_of_file,
    write_guard,
)
from streamstate.storage._lock import DirectoryLock
from streamstate.storage._ports import InvocationReader
from streamstate.storage._rows import Batch, Header, OutboxMessage, PositionId, PromiseId, TimerRow
from streamstate.storage._space import free_bytes
from streamstate.storage._sqlite_errors import storage_error
from streamstate.storage._sqlite_open import (
    CHECKPOINT_PAGES,
    DATABASE_FILE,
    Known,
    begin_epoch,
    finish_rollback,
    make_directory,
    open_reader,
    open_writer,
)
from streamstate.storage._sqlite_read import Reading, SqliteInvocations
from streamstate.storage._sqlite_write import write_batch

_STATE = "SELECT name, value FROM object_state WHERE service = ? AND key = ? ORDER BY name"
_STATES = "SELECT key, name, value FROM object_state WHERE service = ? AND key IN ({keys})"
_POSITIONS = "SELECT subscription, topic, topic_id, partition, next_offset FROM positions"
_TRIALS = "SELECT invocation, deaths FROM trials"
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
# One statement verifies the epoch and numbers the commit.
_MARK = (
    "UPDATE meta SET clock_ms = ?, seq = ?, outbox_position = ?, commits = ?, checkpointed = ? WHERE epoch = ? "
    "RETURNING 1"
)
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
        commits: the numbers of its commits.
    """

    __slots__ = (
        "_broken",
        "_checkpointed",
        "_commits",
        "_committing",
        "_header",
        "_invocations",
        "_lock",
        "_log_pages",
        "_marks",
        "_path",
        "_reading",
        "_writer",
        "directory",
    )

    def __init__(
        self,
        directory: Path,
        writer: apsw.Connection,
        reader: apsw.Connection,
        lock: DirectoryLock,
        header: Header,
        commits: Commits,
    ) -> None:
        self.directory = directory
        self._path = directory / DATABASE_FILE
        self._writer = writer
        self._reading = Reading(reader, self._path)
        self._invocations = SqliteInvocations(self._reading)
        self._lock: DirectoryLock | None = lock
        self._header = header
        # What the table meta holds now.
        self._marks = (header.clock_ms, header.seq, header.outbox_position)
        self._commits, self._checkpointed = commits.last, commits.checkpointed
        self._log_pages = 0
        writer.set_wal_hook(self._note_log)
        self._broken = ""
        self._committing = threading.Lock()  # close() may come from another thread than the last commit

    @classmethod
    def open(cls, directory: Path, application: str | None = None, *, vfs: str | None = None) -> Self:
        """Open the data directory, or make it; the new owner epoch is durable when this returns.

        One of an older format is upgraded, after a backup of it was put beside it.

        Args:
            directory: the data directory.
            application: the App's name; the first one to open a directory with a name owns it for good.
            vfs: the name of an SQLite VFS on top of `checksum_vfs()`; by default that one itself.

        Raises:
            StorageInUseError: another process owns it, or this one has it open already.
            StorageFormatError: it was written by another version, or not by streamstate.
            StorageCorruptError: it does not read back as it was written, or is older than it was.
            StorageError: it cannot be made, written to or locked; or it belongs to another application.
        """
        vfs = checksum_vfs() if vfs is None else vfs
        directory = directory.absolute()
        path = directory / DATABASE_FILE
        make_directory(directory)
        with ExitStack() as undo:
            lock = DirectoryLock.acquire(directory)
            undo.callback(lock.release)
            finish_rollback(path, vfs)
            check_log_is_there(path, read_guard(directory))
            admit(directory, lock.previous.epoch)
            guard = read_guard(directory)  # an upgrade removes it
            check_file_sum(path, guard)
            known = Known(lock.previous.epoch, guard, commits_in_file(path, vfs))
            writer = open_writer(path, vfs)
            undo.callback(_close, writer, path)
            # Until it is ours, closing it must leave the files as they are.
            writer.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            header, commits = begin_epoch(writer, path, known)
            lock.record(header.epoch)
            write_guard(directory, Guard(header.directory_id, commits.last, True))
            header = msgspec.structs.replace(
                header,
                restored_epoch=settle(writer, path, application),
                was_clean=lock.previous.released or lock.previous.epoch == 0,
            )
            reader = open_reader(path, vfs)
            undo.pop_all()
        return cls(directory, writer, reader, lock, header, commits)

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
                self._move_log()
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

    def trials(self) -> dict[str, int]:
        """For every suspect that was never cleared, how often the process has ended since it became one."""
        return dict(self._reading.rows(_TRIALS))

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

    def backup(self, destination: Path, progress: Progress | None = None) -> BackupFacts:
        """Write a backup into a new file while this store is at work; for any thread. See `take_backup`."""
        return take_backup(self.directory, destination, progress)

    def free_bytes(self) -> int:
        """How much more fits on its volume."""
        return free_bytes(self.directory)

    def close(self) -> None:
        """Move the log into the database file and release the directory; a second call does nothing.

        Raises:
            StorageError: the database file could not be written; everything committed is safe in its log.
        """
        with self._committing:
            if self._lock is None:
                return
            lock = self._lock
            with ExitStack() as last:
                last.callback(lock.release)
                last.callback(lock.record, self._header.epoch, released=True)
                last.callback(_close, self._writer, self._path)
                last.callback(self._reading.close)
                self._lock = None
                was_broken, self._broken = bool(self._broken), "the store was closed"
                self._reading.close()
                # What failed once is left as it is; the next opening looks at it.
                if not was_broken and self._checkpoint():
                    self._write_closed()

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
        number = self._commits + 1
        cursor.execute("BEGIN IMMEDIATE")
        epoch = self._header.epoch
        if not cursor.execute(_MARK, (*marks, number, self._checkpointed, epoch)).fetchall():
            raise CommitFailedError(
                f"{self._path}: its owner epoch is no longer {epoch}: another process has opened the directory"
            )
        write_batch(cursor, batch)
        cursor.execute("COMMIT")
        self._marks, self._commits = marks, number

    def _roll_back(self, failed: BaseException) -> None:
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except apsw.Error as error:
            # The transaction ends with the connection; what matters is the first failure.
            failed.add_note(f"the rollback failed too: {error}")

    def _write_closed(self) -> None:
        try:
            file_sum = sum_of_file(self._path)
        except OSError as error:
            raise StorageError(f"{self._path}: it does not read ({error.strerror}); check the disk") from error
        write_guard(self.directory, Guard(self._header.directory_id, self._commits, False, file_sum))
        self._writer.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)

    def _note_log(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _move_log(self) -> None:
        """Move a long log into the database file.

        What was committed stays durable in the log if this fails; but a disk that fails once is not believed again, so
        the commit that comes next is refused.
        """
        if self._log_pages >= CHECKPOINT_PAGES:
            try:
                self._checkpoint()
            except StorageError as error:
                self._broken = f"the log could not be moved into the database file ({error})"

    def _checkpoint(self) -> bool:
        """Move the log into the database file, as far as readers let it; True when the file has everything."""
        try:
            pages, moved = self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            raise storage_error(error, self._path) from error
        if pages == moved:
            self._checkpointed = self._commits
        return pages == moved


def _close(connection: apsw.Connection, path: Path) -> None:
    try:
        connection.close()
    except apsw.Error as error:
        raise storage_error(error, path) from error
