"""Taking over what a database tool has left: its pages are taken as they are, and get checksums again."""

from __future__ import annotations

from pathlib import Path

import apsw

from streamstate.errors import StorageCorruptError
from streamstate.storage._checksums import checksum_vfs, reserve_checksums
from streamstate.storage._guard import GUARD_FILE
from streamstate.storage._lock import DirectoryLock
from streamstate.storage._sqlite_errors import storage_error
from streamstate.storage._sqlite_open import DATABASE_FILE


def reseal(directory: Path) -> None:
    """Make valid checksums for a database that a tool without them has written to, and forget what was known of it.

    Whoever calls this vouches for the content: bytes that a disk has damaged become valid, too, as far as they do not
    break the structure of the database. Take a copy of the directory before.

    Raises:
        StorageInUseError: a process owns the directory.
        StorageCorruptError: the structure of the database is damaged.
        StorageError: it cannot be read or written.
    """
    path = directory / DATABASE_FILE
    lock = DirectoryLock.acquire(directory)
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=checksum_vfs())
        try:
            connection.pragma("checksum_verification", "off")
            problems = connection.execute("PRAGMA integrity_check(1)").fetchall()
            if problems != [("ok",)]:
                raise StorageCorruptError(f"{path}: {problems[0][0]}; restore a backup of the whole directory")
            connection.pragma("synchronous", "FULL")
            reserve_checksums(connection)
            connection.execute("VACUUM")  # writes every page anew
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close()
        (directory / GUARD_FILE).unlink(missing_ok=True)
    except apsw.Error as error:
        raise storage_error(error, path) from error
    finally:
        lock.release()
