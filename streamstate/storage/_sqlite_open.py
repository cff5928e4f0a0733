"""Opening a data directory: make it or check it, and take ownership of it by a new epoch."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import apsw

from streamstate.errors import StorageCorruptError, StorageError, StorageFormatError
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
_CHECKPOINT_PAGES = 4_000  # 16 MiB: pages that are written again and again reach the database file once
_WAL_BYTES_KEPT = 64 * 1024 * 1024  # after a burst the log shrinks back to this
_CHECKED_BYTES_MAX = 64 * 1024 * 1024  # a whole check reads everything: a fraction of a second up to this size


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


def open_writer(path: Path) -> apsw.Connection:
    """The connection that writes and checkpoints, to a database that is ours, or empty."""
    try:
        connection = apsw.Connection(
            str(path),
            flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE,
            statementcachesize=CACHED_STATEMENTS,
        )
    except apsw.Error as error:
        raise storage_error(error, path) from error
    try:
        connection.set_busy_timeout(_BUSY_MS)
        _check_format(connection, path)
        if connection.pragma("journal_mode", "wal") != "wal":
            raise StorageError(f"{path}: the file system has no shared memory for a write-ahead log; use a local disk")
        # Without fullfsync, macOS answers before the disk has the bytes; elsewhere it means nothing.
        for name, value in (("synchronous", "FULL"), ("fullfsync", 1), ("checkpoint_fullfsync", 1)):
            connection.pragma(name, value)
        connection.pragma("cache_size", -_CACHE_KIB)
        connection.pragma("journal_size_limit", _WAL_BYTES_KEPT)
        connection.wal_autocheckpoint(_CHECKPOINT_PAGES)
    except apsw.Error as error:
        connection.close()
        raise storage_error(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> apsw.Connection:
    """A connection that reads only, and never checkpoints."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(_BUSY_MS)
        connection.pragma("cache_size", -_CACHE_KIB)
        connection.wal_autocheckpoint(0)
    except apsw.Error as error:
        raise storage_error(error, path) from error
    return connection


def begin_epoch(connection: apsw.Connection, path: Path, known_epoch: int) -> Header:
    """Make the tables if there are none, and start the next epoch, durably.

    Args:
        connection: the writing connection.
        path: the database file.
        known_epoch: the last epoch that the lock file knows of; 0 if there never was one.

    Raises:
        StorageCorruptError: a part of the database is missing or does not read back.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _is_empty(connection):
                if known_epoch:
                    raise StorageCorruptError(
                        f"{path}: the database is empty, but it was opened {known_epoch} times before; restore a "
                        "backup of the whole directory, or remove the whole directory to start from nothing"
                    )
                _create(connection)
            else:
                _check_content(connection, path)
            connection.execute("UPDATE meta SET epoch = epoch + 1")
            header = _read_header(connection, path)
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
    return header


def _check_format(connection: apsw.Connection, path: Path) -> None:
    """Look before anything is written: a file that is not ours must stay as it is."""
    application, version = connection.pragma("application_id"), connection.pragma("user_version")
    if application == 0 and version == 0 and _is_empty(connection):
        return
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


def _is_empty(connection: apsw.Connection) -> bool:
    return connection.execute("SELECT count(*) FROM sqlite_schema").fetchall() == [(0,)]


def _create(connection: apsw.Connection) -> None:
    connection.execute(TABLES + INDEXES + VIEWS)
    connection.execute("INSERT INTO meta VALUES (1, ?, 0, 0, 0, 0)", (secrets.token_hex(16),))
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", FORMAT_VERSION)


def _check_content(connection: apsw.Connection, path: Path) -> None:
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()}
    if not found >= TABLE_NAMES:
        missing = ", ".join(sorted(TABLE_NAMES - found))
        raise StorageCorruptError(f"{path}: tables are missing: {missing}; restore a backup of the whole directory")
    if connection.pragma("page_count") * connection.pragma("page_size") > _CHECKED_BYTES_MAX:
        return
    problems = connection.execute("PRAGMA quick_check(1)").fetchall()
    if problems != [("ok",)]:
        raise StorageCorruptError(f"{path}: {problems[0][0]}; restore a backup of the whole directory")


def _read_header(connection: apsw.Connection, path: Path) -> Header:
    rows = connection.execute("SELECT directory_id, epoch, clock_ms, seq, outbox_position FROM meta").fetchall()
    if len(rows) != 1:
        raise StorageCorruptError(
            f"{path}: the table meta has {len(rows)} rows, expected 1; restore a backup of the whole directory"
        )
    live = connection.execute(f"SELECT count(*) FROM invocations WHERE {IS_LIVE}").fetchall()
    return Header(*rows[0], *live[0])  # type: ignore[arg-type]  # the tables are STRICT: the types are the columns'
