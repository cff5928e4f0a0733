"""Looking at a database that another process may own: nothing here writes to it, or moves its log into it.

SQLite itself may make or mend the files `-shm` and `-wal` beside it: its index of the log, and an empty log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from streamstate.errors import StorageError, StorageFormatError
from streamstate.storage._checksums import checksum_vfs
from streamstate.storage._codec import Row, SqlValue
from streamstate.storage._schema import APPLICATION_ID, BACKUP_ID, FORMAT_VERSION
from streamstate.storage._sqlite_errors import storage_error

DATABASE_FILE = "streamstate.db"
SIDE_FILES = ("-wal", "-shm", "-journal")
_BUSY_MS = 5_000


@contextmanager
def glance(path: Path) -> Iterator[apsw.Connection]:
    """A connection that only reads, inside one transaction: all of it is one moment of the store.

    Raises:
        StorageError: there is no such file, or it does not read; by the names of the tree.
    """
    if not path.is_file():
        raise StorageError(f"{path}: there is no such file; give the path of a data directory, or of a backup")
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=checksum_vfs())
    except apsw.Error as error:
        raise storage_error(error, path) from error
    try:
        connection.set_busy_timeout(_BUSY_MS)
        connection.wal_autocheckpoint(0)
        # The last one to close a database would move its log into it.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute("BEGIN")
        ask(connection, "SELECT count(*) FROM sqlite_schema")
        yield connection
    except apsw.Error as error:
        raise storage_error(error, path) from error
    finally:
        connection.close()


def ask(connection: apsw.Connection, sql: str, values: tuple[SqlValue, ...] = ()) -> list[Row]:
    """All rows of a query."""
    return connection.execute(sql, values).fetchall()


def check_kind(connection: apsw.Connection, path: Path, expected: int) -> int:
    """The format version of a database of this kind, be it older than ours.

    Args:
        connection: to it.
        path: of it, for messages.
        expected: APPLICATION_ID or BACKUP_ID.

    Raises:
        StorageFormatError: it is no such database, or of a version to come.
    """
    found, version = int(connection.pragma("application_id")), int(connection.pragma("user_version"))
    if found != expected:
        raise StorageFormatError(f"{path}: {_MISTAKEN.get((expected, found), _FOREIGN[expected])}")
    if not 1 <= version <= FORMAT_VERSION:
        raise StorageFormatError(
            f"{path}: found format version {version}, this version of streamstate knows those up to {FORMAT_VERSION}; "
            "use the version of streamstate that wrote it, or a later one"
        )
    return version


_FOREIGN = {
    APPLICATION_ID: "not a database of streamstate; choose another directory",
    BACKUP_ID: "not a backup of streamstate; give the file that `streamstate backup` wrote",
}
_MISTAKEN = {
    (APPLICATION_ID, BACKUP_ID): (
        "it is a backup, and was copied to where a data directory has its database; move it away, and make a data "
        "directory of it with `streamstate restore`"
    ),
    (BACKUP_ID, APPLICATION_ID): (
        "it is the database of a data directory, or a backup that was not finished, and no backup; "
        "give the file that `streamstate backup` wrote, or a copy of the whole directory as a data directory"
    ),
}
