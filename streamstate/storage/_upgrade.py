"""From one format to the next: a chain of steps, each from version N to N + 1.

U1  A step is written once and never changed: it names its tables itself, and not by what `_schema` holds today.
U2  All steps of an upgrade and the new version are one transaction: a directory is of the old format or of the new one.
U3  What comes out is what a new directory has, statement by statement, or the upgrade is undone.
U4  Before a data directory is upgraded, a backup of it is taken; the version that wrote it can use it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import apsw
import msgspec

from streamstate.errors import StorageFormatError
from streamstate.storage._backup import sync_directory, take_backup
from streamstate.storage._checksums import checksum_vfs, reserve_checksums
from streamstate.storage._glance import ask
from streamstate.storage._guard import GUARD_FILE
from streamstate.storage._history import Upgraded, note
from streamstate.storage._schema import FORMAT_VERSION, INDEXES, TABLES, VIEWS
from streamstate.storage._sqlite_errors import storage_error

Step = Callable[[apsw.Connection], None]


def _to_2(connection: apsw.Connection) -> None:
    """Whose it is, history, suspects, commit numbers; page checksums come with `upgrade`'s rewriting of the file."""
    connection.execute(
        """
CREATE TEMP TABLE meta_1 AS SELECT * FROM main.meta;
DROP TABLE main.meta;
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    directory_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    clock_ms INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    outbox_position INTEGER NOT NULL,
    commits INTEGER NOT NULL,
    checkpointed INTEGER NOT NULL
) STRICT;
INSERT INTO main.meta SELECT *, 0, 0 FROM meta_1;
DROP TABLE meta_1;
CREATE TABLE application (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    name TEXT NOT NULL
) STRICT;
CREATE TABLE history (
    ordinal INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    event TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE TABLE trials (
    invocation TEXT PRIMARY KEY,
    deaths INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""
    )


STEPS: Final[Mapping[int, Step]] = {1: _to_2}
"""By the version that they start from."""

_CHECKSUMS_SINCE: Final = 2


def upgrade_directory(database: Path, version: int, epoch: int) -> Path:
    """Bring a data directory that this process owns to the present format; the path of the backup taken before.

    Raises:
        StorageError: it could not be done; the directory is as it was.
    """
    kept = database.with_name(f"before-format-{FORMAT_VERSION}-epoch-{epoch}.backup")
    if not kept.exists():  # from an attempt that was cut short; of the same epoch, hence of the same content
        take_backup(database.parent, kept)
    # It compares with the file as it was; without one, the next opening has less to compare.
    database.with_name(GUARD_FILE).unlink(missing_ok=True)
    sync_directory(database.parent)
    try:
        connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE, vfs=checksum_vfs())
    except apsw.Error as error:
        raise storage_error(error, database) from error
    try:
        connection.pragma("synchronous", "FULL")
        connection.pragma("fullfsync", 1)
        upgrade(connection, database, version)
    except apsw.Error as error:
        raise storage_error(error, database) from error
    finally:
        connection.close()
    return kept


def upgrade(connection: apsw.Connection, path: Path, version: int, steps: Mapping[int, Step] = STEPS) -> None:
    """Bring a database from this version to the present one.

    Args:
        connection: may write to it, and is in no transaction.
        path: of it, for messages.
        version: the one it has.
        steps: by the version that they start from.

    Raises:
        StorageFormatError: the result is not what it should be; nothing has changed.
    """
    if version < _CHECKSUMS_SINCE:
        # Rewrites the file with room for the checksums; outside of the transaction (U2), since it changes no content.
        reserve_checksums(connection)
        connection.execute("VACUUM")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for (view,) in ask(connection, "SELECT name FROM sqlite_schema WHERE type = 'view'"):
            connection.execute(f'DROP VIEW "{view}"')
        for start in range(version, FORMAT_VERSION):
            steps[start](connection)
        connection.execute(VIEWS)
        _check_result(connection, path, version)
        connection.pragma("user_version", FORMAT_VERSION)
        note(connection, Upgraded(version, FORMAT_VERSION), time.time_ns() // 1_000_000)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class SchemaPart(msgspec.Struct, frozen=True, order=True):
    """One table, index or view, and the statement that made it."""

    type: str
    name: str
    sql: str


def schema_of(connection: apsw.Connection) -> list[SchemaPart]:
    """What the database consists of, in a fixed order."""
    rows = ask(connection, "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return sorted(SchemaPart(*row) for row in rows)


def present_schema() -> list[SchemaPart]:
    """What a new database of the present format consists of."""
    connection = apsw.Connection(":memory:")
    try:
        connection.execute(TABLES + INDEXES + VIEWS)
        return schema_of(connection)
    finally:
        connection.close()


def _check_result(connection: apsw.Connection, path: Path, version: int) -> None:
    """U3."""
    found, expected = schema_of(connection), present_schema()
    differing = sorted({part.name for part in {*found} ^ {*expected}})
    if differing:
        raise StorageFormatError(
            f"{path}: the upgrade from format {version} to {FORMAT_VERSION} was undone: {', '.join(differing)} would "
            "not be as expected, so something else has changed the database before; restore a backup of the directory"
        )
