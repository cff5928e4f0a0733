"""SQLite's errors, by our names."""

from __future__ import annotations

from pathlib import Path

import apsw

from streamstate.errors import StorageCorruptError, StorageError, StorageFormatError, StorageInUseError

_REMEDIES: tuple[tuple[type[apsw.Error], type[StorageError], str], ...] = (
    (
        apsw.CorruptError,
        StorageCorruptError,
        "it does not read back as it was written; restore a backup of the whole directory",
    ),
    (
        apsw.NotADBError,
        StorageFormatError,
        "it was not written by streamstate, or its start was overwritten; "
        "choose another directory, or restore a backup of this one",
    ),
    (
        apsw.BusyError,
        StorageInUseError,
        "another program holds a lock on it; close that program (a database browser, a backup tool)",
    ),
    (apsw.FullError, StorageError, "the disk is full; free some space and start again"),
    (apsw.ReadOnlyError, StorageError, "it is read-only; give this user write access to it"),
    (apsw.CantOpenError, StorageError, "it cannot be opened; check the directory and this user's access to it"),
    (apsw.ConnectionClosedError, StorageError, "the store was closed; open it again"),
)


_CHECKSUM_REMEDY = (
    "a page of it does not have the checksum that it was written with: the disk has damaged it, or a database tool has "
    "written to it; restore a backup of the whole directory"
)


def storage_error(error: apsw.Error, path: Path) -> StorageError:
    """What to raise for an error of SQLite on this file."""
    if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA:  # errors of apsw itself have none
        return StorageCorruptError(f"{path}: {_CHECKSUM_REMEDY} ({_said(error)})")
    for kind, ours, remedy in _REMEDIES:
        if isinstance(error, kind):
            return ours(f"{path}: {remedy} ({_said(error)})")
    return StorageError(f"{path}: the database failed ({_said(error)}); check the disk and the system's log")


def _said(error: apsw.Error) -> str:
    return f"{type(error).__name__}: {error}"
