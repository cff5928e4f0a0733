"""Before a data directory is opened: what is odd about it is refused by name (I11), and an older format is upgraded."""

from __future__ import annotations

import logging
from pathlib import Path

import apsw

from streamstate.errors import StorageCorruptError, StorageError
from streamstate.storage._glance import DATABASE_FILE, ask, check_kind, glance
from streamstate.storage._guard import check_file_sum, check_log_is_there, read_guard
from streamstate.storage._history import restored_epoch
from streamstate.storage._restore import refuse_unfinished_restore
from streamstate.storage._schema import APPLICATION_ID, BACKUP_ID, FORMAT_VERSION
from streamstate.storage._sqlite_errors import storage_error
from streamstate.storage._upgrade import upgrade_directory

_logger = logging.getLogger("streamstate.storage")


def admit(directory: Path, known_epoch: int) -> None:
    """Look at a directory that this process has locked; whether its content is sound is for the opening to find out.

    Args:
        directory: the data directory.
        known_epoch: the last epoch that the lock file knows of; 0 if there never was one.

    Raises:
        StorageFormatError: its database is a backup, or of another program, or of a version to come.
        StorageCorruptError: its database is older than what the directory held before.
        StorageError: it was not restored to the end, or could not be upgraded.
    """
    refuse_unfinished_restore(directory)
    database = directory / DATABASE_FILE
    if not database.is_file() or not database.stat().st_size:
        return
    with glance(database) as connection:
        version = connection.pragma("user_version")
        if connection.pragma("application_id") == BACKUP_ID:
            check_kind(connection, database, APPLICATION_ID)
        epoch = _epoch_of(connection)
    if epoch is None or version not in range(1, FORMAT_VERSION + 1):
        return
    if older_copy(epoch, known_epoch):
        raise StorageCorruptError(
            f"{database}: its last owner epoch is {epoch}, but the directory was opened under {known_epoch} before: "
            "an older copy was put in its place. Put back the newer one; or take a backup of this directory and "
            "restore it into a new one, which makes the older state a state of its own"
        )
    if version < FORMAT_VERSION:
        # Now, as the opening will look at what the upgrade has made of it.
        guard = read_guard(directory)
        check_file_sum(database, guard)
        check_log_is_there(database, guard)
        kept = upgrade_directory(database, version, epoch)
        _logger.warning(
            "the data directory %s was upgraded from format %d to %d; %s is a backup of what it was: remove it when "
            "you will not go back",
            directory,
            version,
            FORMAT_VERSION,
            kept.name,
        )


def settle(connection: apsw.Connection, path: Path, application: str | None) -> int:
    """Make sure that a directory is that of this application, or make it so; the epoch of its last restore.

    Raises:
        StorageError: it belongs to another one.
    """
    try:
        if application is not None:
            connection.execute("INSERT INTO application VALUES (1, ?) ON CONFLICT DO NOTHING", (application,))
        owner = ask(connection, "SELECT name FROM application")
        epoch = restored_epoch(connection)
    except apsw.Error as error:
        raise storage_error(error, path) from error
    if application is not None and owner != [(application,)]:
        raise StorageError(
            f"the data directory {path.parent} belongs to App {owner[0][0]!r}, not to {application!r}: source "
            "positions and identities carry the App's name. Start that App, or choose another directory for this one"
        )
    return epoch


def older_copy(epoch: int, known_epoch: int) -> bool:
    """Whether a database is older than its directory: an epoch is durable in it before the lock file knows it."""
    return epoch < known_epoch


def _epoch_of(connection: apsw.Connection) -> int | None:
    """None where it cannot be told; the opening says why."""
    if ask(connection, "SELECT count(*) FROM sqlite_schema WHERE name = 'meta'") != [(1,)]:
        return None
    epochs = ask(connection, "SELECT epoch FROM meta")
    return int(epochs[0][0]) if len(epochs) == 1 else None
