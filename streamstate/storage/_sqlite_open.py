"""Opening a data directory: make it or check it, and take ownership of it by a new epoch."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import apsw

from streamstate.errors import StorageCorruptError, StorageError, StorageFormatError
from streamstate.storage._checksums import check_checksums, reserve_checksums
from streamstate.storage._guard import (
    WHOLE_BYTES_MAX,
    Commits,
    Guard,
    check_commits,
    check_log_end,
    check_size,
    commits_of,
)
from streamstate.storage._multirow import CACHED_STATEMENTS
from streamstate.storage._rows import Header
from streamstate.storage._schema import (
    APPLICATION_ID,
    FORMAT_VERSION,
    INDEXES,
    IS_LIVE,
    TABLE_NAMES,
    TABLES,
    VIEWS,
)
from streamstate.storage._sqlite_errors import storage_error

DATABASE_FILE = "streamstate.db"

_BUSY_MS = 5_000  # only other programs can make us wait; long enough for a glance with a database browser
_CACHE_KIB = 64 * 1024  # pages of the hottest keys, for each of the two connections
CHECKPOINT_PAGES = 4_000  # 16 MiB: pages that are written again and again reach the database file once
_WAL_BYTES_KEPT = 64 * 1024 * 1024  # after a burst the log shrinks back to this


def make_directory(directory: Path) -> None:
    """Make the directory, durably.

    Raises:
        StorageError: it cannot be made.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in missing:
            sync_directory(path.parent)
    except OSError as error:
        raise StorageError(
            f"cannot make the data directory {directory} ({error.strerror}); "
            "choose a path whose parent this user can write to"
        ) from error


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def finish_rollback(path: Path, vfs: str) -> None:
    """Undo what was cut short while the database was made or rewritten: who only reads could not, and would fail.

    Raises:
        StorageError: it cannot be undone.
    """
    if not path.with_name(f"{path.name}-journal").exists():
        return
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, vfs=vfs)
        try:
            _is_empty(connection)
        finally:
            connection.close()
    except apsw.Error as error:
        raise storage_error(error, path) from error


def open_writer(path: Path, vfs: str) -> apsw.Connection:
    """The connection that writes and checkpoints, to a database that is ours, or empty.

    It never checkpoints by itself: SQLite would pass over the failures, and nobody could say how far the file is.
    """
    try:
        connection = apsw.Connection(
            str(path),
            flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE,
            vfs=vfs,
            statementcachesize=CACHED_STATEMENTS,
        )
    except apsw.Error as error:
        raise storage_error(error, path) from error
    try:
        connection.set_busy_timeout(_BUSY_MS)
        _prepare_format(connection, path)
        if connection.pragma("journal_mode", "wal") != "wal":
            raise StorageError(f"{path}: the file system has no shared memory for a write-ahead log; use a local disk")
        # Without fullfsync, macOS answers before the disk has the bytes; elsewhere it means nothing.
        for name, value in (("synchronous", "FULL"), ("fullfsync", 1), ("checkpoint_fullfsync", 1)):
            connection.pragma(name, value)
        connection.pragma("cache_size", -_CACHE_KIB)
        connection.pragma("journal_size_limit", _WAL_BYTES_KEPT)
        connection.wal_autocheckpoint(0)
    except apsw.Error as error:
        connection.close()
        raise storage_error(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path, vfs: str) -> apsw.Connection:
    """A connection that reads only, and never checkpoints."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    except apsw.Error as error:
        raise storage_error(error, path) from error
    try:
        connection.set_busy_timeout(_BUSY_MS)
        connection.pragma("cache_size", -_CACHE_KIB)
        connection.wal_autocheckpoint(0)
    except apsw.Error as error:
        connection.close()
        raise storage_error(error, path) from error
    return connection


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a directory before its database is opened.

    Attributes:
        epoch: the last one that the lock file knows of; 0 if there never was one.
        in_file: what the database file says without its log.
    """

    epoch: int
    guard: Guard | None
    in_file: Commits | None


def begin_epoch(connection: apsw.Connection, path: Path, known: Known) -> tuple[Header, Commits]:
    """Make the tables if there are none, and start the next epoch, durably.

    Args:
        connection: the writing connection.
        path: the database file.
        known: what the rest of the directory says.

    Raises:
        StorageCorruptError: a part of the database is missing or does not read back, or does not fit the rest.
    """
    try:
        frames = check_log_end(path, connection)
        check_size(path, connection, frames)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _is_empty(connection):
                _check_is_new(path, known)
                _create(connection)
            else:
                _check_content(connection, path, known)
            # Without a log, the file has everything.
            checkpointed = "checkpointed" if frames else "commits"
            connection.execute(
                f"UPDATE meta SET epoch = epoch + 1, commits = commits + 1, checkpointed = {checkpointed}"
            )
            header, commits = _read_header(connection, path)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        sync_directory(path.parent)
    except apsw.Error as error:
        raise storage_error(error, path) from error
    except OSError as error:
        raise StorageError(f"{path.parent}: the directory cannot be made durable ({error.strerror})") from error
    return header, commits


def _check_is_new(path: Path, known: Known) -> None:
    if known.epoch or known.guard is not None:
        times = f"{known.epoch} times" if known.epoch else "and written to"
        raise StorageCorruptError(
            f"{path}: the database is empty, but it was opened {times} before; restore a "
            "backup of the whole directory, or remove the whole directory to start from nothing"
        )


def _prepare_format(connection: apsw.Connection, path: Path) -> None:
    if _check_format(connection, path):
        reserve_checksums(connection)
    else:
        check_checksums(connection, path)


def _check_format(connection: apsw.Connection, path: Path) -> bool:
    """Look before anything is written: a file that is not ours must stay as it is. True for an empty one."""
    application, version = connection.pragma("application_id"), connection.pragma("user_version")
    if application == 0 and version == 0 and _is_empty(connection):
        return True
    if application != APPLICATION_ID:
        raise StorageFormatError(
            f"{path}: not a database of streamstate: found application id {application:#010x}, "
            f"expected {APPLICATION_ID:#010x}; choose another directory"
        )
    if version != FORMAT_VERSION:
        raise StorageFormatError(
            f"{path}: found format version {version}, expected {FORMAT_VERSION}; "
            "use the version of streamstate that wrote it, or another directory"
        )
    return False


def _is_empty(connection: apsw.Connection) -> bool:
    return connection.execute("SELECT count(*) FROM sqlite_schema").fetchall() == [(0,)]


def _create(connection: apsw.Connection) -> None:
    connection.execute(TABLES + INDEXES + VIEWS)
    connection.execute("INSERT INTO meta VALUES (1, ?, 0, 0, 0, 0, 0, 0)", (secrets.token_hex(16),))
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", FORMAT_VERSION)


def _check_content(connection: apsw.Connection, path: Path, known: Known) -> None:
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()}
    if not found >= TABLE_NAMES:
        missing = ", ".join(sorted(TABLE_NAMES - found))
        raise StorageCorruptError(f"{path}: tables are missing: {missing}; restore a backup of the whole directory")
    commits = commits_of(connection)
    if commits is None:
        raise StorageCorruptError(
            f"{path}: the table meta does not hold the one row that streamstate wrote; "
            "restore a backup of the whole directory"
        )
    check_commits(path, commits, known.in_file, known.guard)
    if connection.pragma("page_count") * connection.pragma("page_size") > WHOLE_BYTES_MAX:
        return
    problems = connection.execute("PRAGMA quick_check(1)").fetchall()
    if problems != [("ok",)]:
        raise StorageCorruptError(f"{path}: {problems[0][0]}; restore a backup of the whole directory")


def _read_header(connection: apsw.Connection, path: Path) -> tuple[Header, Commits]:
    rows = connection.execute("SELECT directory_id, epoch, clock_ms, seq, outbox_position FROM meta").fetchall()
    commits = commits_of(connection)
    if commits is None:
        raise StorageCorruptError(
            f"{path}: the table meta has {len(rows)} rows, expected 1; restore a backup of the whole directory"
        )
    live = connection.execute(f"SELECT count(*) FROM invocations WHERE {IS_LIVE}").fetchall()
    return Header(*rows[0], *live[0]), commits  # type: ignore[arg-type]  # STRICT tables: the types are the columns'
