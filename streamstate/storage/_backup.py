"""A consistent copy of a data directory in one file, taken while an application may be running on it.

B1  A backup is one moment of the store, between two commits: all of it is read in one transaction. Commits go on
    meanwhile; the log keeps what they write until the backup is done, so it needs room for that.
B2  Taking it only reads: the owner of the directory stays the one who writes and who moves the log into the database.
B3  What has a backup's name is whole, was read back, and is on disk: until then the file has another name, and inside
    not the mark of a backup.
B4  A backup has another application id than a data directory, so neither passes for the other: a backup becomes a data
    directory by `restore_backup` alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw
import msgspec

from streamstate.errors import StorageCorruptError, StorageError
from streamstate.storage._checksums import checksum_vfs
from streamstate.storage._glance import DATABASE_FILE, SIDE_FILES, ask, check_kind, glance
from streamstate.storage._schema import APPLICATION_ID, BACKUP_ID, TABLE_NAMES
from streamstate.storage._sqlite_errors import storage_error

UNFINISHED = ".partial"

Progress = Callable[[int, int], None]
"""Is told how many pages are copied, and of how many."""

_PAGES_PER_STEP = 1_000  # 4 MB: some milliseconds
_SPARE_BYTES = 1024 * 1024  # a disk that is full to the last byte helps nobody


class BackupFacts(msgspec.Struct, frozen=True):
    """What a backup holds.

    Attributes:
        path: the file.
        directory_id, epoch: of the directory that it was taken of.
        until_ms: the latest durable moment that it holds, in milliseconds since 1970.
        bytes: its size. rows: their number, by table.
        format: the version of the format.
    """

    path: Path
    directory_id: str
    epoch: int
    until_ms: int
    bytes: int
    format: int
    rows: dict[str, int]


def take_backup(directory: Path, destination: Path, progress: Progress | None = None) -> BackupFacts:
    """Write a backup of a data directory into a new file. An application may run on the directory, in any process.

    Args:
        directory: the data directory.
        destination: the file to be made; its directory must be there.
        progress: is told how far it is.

    Raises:
        StorageFormatError: it is no data directory, or one of a version to come.
        StorageError: the directory does not read, the destination is there already or cannot be written.
    """
    source = directory / DATABASE_FILE
    with glance(source) as connection, _unfinished(destination) as partial:
        version = check_kind(connection, source, APPLICATION_ID)
        _check_space(connection, partial)
        copy_pages(connection, partial, progress)
        wanted = _facts(connection, destination, version)
        with changing(partial) as copy:
            verify(copy, partial)
            facts = _facts(copy, destination, version)
            if facts != wanted:
                raise StorageCorruptError(f"{partial}: the copy differs from {source}: check both disks, and try again")
            copy.pragma("application_id", BACKUP_ID)
        facts = msgspec.structs.replace(facts, bytes=partial.stat().st_size)
    return facts


def read_backup(path: Path) -> BackupFacts:
    """What a backup holds, after reading all of it.

    Raises:
        StorageFormatError: it is no backup.
        StorageCorruptError: it does not read back as it was written.
    """
    with glance(path) as connection:
        version = check_kind(connection, path, BACKUP_ID)
        verify(connection, path)
        return msgspec.structs.replace(_facts(connection, path, version), bytes=path.stat().st_size)


def copy_pages(source: apsw.Connection, destination: Path, progress: Progress | None) -> None:
    """Copy a whole database as the source's open transaction sees it; it is on disk when `changing` has ended."""
    try:
        copy = apsw.Connection(str(destination), vfs=checksum_vfs())
        try:
            # What is interrupted is thrown away as a whole.
            copy.pragma("journal_mode", "off")
            copy.pragma("synchronous", "off")
            with copy.backup("main", source, "main") as copying:
                while not copying.done:
                    copying.step(_PAGES_PER_STEP)
                    if progress is not None:
                        progress(copying.page_count - copying.remaining, copying.page_count)
        finally:
            copy.close()
    except apsw.Error as error:
        raise storage_error(error, destination) from error


@contextmanager
def changing(path: Path) -> Iterator[apsw.Connection]:
    """A connection to a copy that nobody else knows of; at its end the copy is one file, and on disk."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=checksum_vfs())
        try:
            connection.pragma("journal_mode", "delete")
            connection.pragma("synchronous", "off")
            yield connection
        finally:
            connection.close()
    except apsw.Error as error:
        raise storage_error(error, path) from error
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def verify(connection: apsw.Connection, path: Path) -> None:
    """Read everything.

    Raises:
        StorageCorruptError: it does not read back as it was written.
    """
    problems = ask(connection, "PRAGMA quick_check(1)")
    if problems != [("ok",)]:
        raise StorageCorruptError(f"{path}: {problems[0][0]}; it is damaged, use another backup of the directory")


def remove_unfinished(path: Path) -> None:
    """Remove a copy that was not finished, with what SQLite has made beside it."""
    for name in (path, *(path.with_name(path.name + side) for side in SIDE_FILES)):
        with suppress(FileNotFoundError):
            name.unlink()


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _unfinished(destination: Path) -> Iterator[Path]:
    """B3: a file beside the destination, which takes its name when the block has ended without an exception."""
    partial = destination.with_name(destination.name + UNFINISHED)
    _refuse_existing(destination)
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    except FileExistsError:
        raise StorageError(
            f"{partial} is there: another backup is being written to {destination}, or one was cut short; "
            "in the second case remove that file, or choose another name"
        ) from None
    except OSError as error:
        raise StorageError(
            f"cannot write {partial} ({error.strerror}); choose a directory that is there and this user can write to"
        ) from error
    try:
        yield partial
        _refuse_existing(destination)
        partial.rename(destination)
        sync_directory(destination.parent)
    except OSError as error:
        raise StorageError(f"cannot write {destination} ({error.strerror}); check the disk") from error
    finally:
        remove_unfinished(partial)


def _refuse_existing(destination: Path) -> None:
    if destination.is_symlink() or destination.exists():
        raise StorageError(f"{destination} is there already; choose a name that is not, a backup never overwrites")


def _check_space(connection: apsw.Connection, partial: Path) -> None:
    needed = int(connection.pragma("page_count")) * int(connection.pragma("page_size")) + _SPARE_BYTES
    free = shutil.disk_usage(partial.parent).free
    if free < needed:
        raise StorageError(
            f"{partial.parent} has {free:,} bytes free, and the backup needs {needed:,}; "
            "free some space, or choose another disk"
        )


def _facts(connection: apsw.Connection, path: Path, version: int) -> BackupFacts:
    meta = ask(connection, "SELECT directory_id, epoch, clock_ms FROM meta")
    if len(meta) != 1:
        raise StorageCorruptError(f"{path}: the table meta has {len(meta)} rows, expected 1; use an older backup")
    tables = {row[0] for row in ask(connection, "SELECT name FROM sqlite_schema WHERE type = 'table'")}
    rows = {name: ask(connection, f"SELECT count(*) FROM {name}")[0][0] for name in sorted(TABLE_NAMES & tables)}
    ((directory_id, epoch, until_ms),) = meta
    return BackupFacts(path, directory_id, epoch, until_ms, 0, version, rows)
