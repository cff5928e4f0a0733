"""Checksums on the pages of the database file.

SQLite checks what it reads back from its log, and believes whatever a page of the database file says. Its own checksum
VFS, a part of apsw's wheels, ends each page with eight bytes when it is written to that file, and verifies them when
it is read. It computes in C and only when the log moves into the file, which is why it costs a commit next to nothing.

A program without it can read the file, but what it writes there has no valid checksums: SQLite tools must open a data
directory read-only.
"""

from __future__ import annotations

from pathlib import Path

import apsw
import apsw.sqlite_extra

from streamstate.errors import StorageCorruptError, StorageError

CHECKSUM_VFS = "cksmvfs"
_RESERVED_BYTES = 8  # at the end of each page; the VFS does nothing for any other number


def checksum_vfs() -> str:
    """The name of the VFS with page checksums, loaded into apsw's SQLite if it is not yet.

    SQLite makes it the default of the process, and that is left so: a connection that anybody opens to one of our files
    without a thought keeps the checksums valid, and other databases notice nothing.

    Raises:
        StorageError: this apsw was built without it.
    """
    if CHECKSUM_VFS not in apsw.vfs_names():
        try:
            nowhere = apsw.Connection(":memory:")
            try:
                apsw.sqlite_extra.load(nowhere, "cksumvfs")
            finally:
                nowhere.close()
        except (apsw.Error, apsw.sqlite_extra.NotAvailable, LookupError) as error:
            raise StorageError(
                f"this build of apsw has no page checksums ({error}); install a wheel of it from PyPI: "
                "pip install --force-reinstall --only-binary=apsw apsw"
            ) from error
    return CHECKSUM_VFS


def reserve_checksums(connection: apsw.Connection) -> None:
    """Let a database have page checksums from its first page on; does nothing where they are already."""
    connection.reserve_bytes(None, _RESERVED_BYTES)


def check_checksums(connection: apsw.Connection, path: Path) -> None:
    """Raises StorageCorruptError when pages are read without being verified."""
    if int(connection.pragma("checksum_verification") or 0) != 1:
        raise StorageCorruptError(
            f"{path}: its pages carry no checksums: its header is damaged, or another program has rewritten it; "
            "restore a backup of the whole directory"
        )
