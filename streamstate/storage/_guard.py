"""What must fit together before a data directory is used.

The database file and its log are two files, and SQLite takes each pair that it finds for one. So a file that was
replaced by an older copy of itself, or a log that was removed or cut, gives a mixture of two moments, or silently loses
what was acknowledged. Commits are numbered, and these numbers tell:

G1  The number in the database file alone lies between that of the last whole checkpoint before the log's last commit
    and that of the log's last commit.
G2  A directory that was not closed has a log.
G3  The store has at least the commits that the file `guard` knows of; of one that was closed, the database file alone
    has them.
G4  The database file has all pages that the log has not, and has them whole.
G5  A database file that was closed, and is small enough to be read whole, is the same to the last bit: it finds a page
    that the disk has put in another page's place, or has never written, which no checksum in the page itself can tell.
G6  Behind the place where the log ends is at most one commit: the one that was being written.

A loss of power leaves all six true, in whatever order the disk wrote: the log is synced before a commit returns, before
its pages move into the file, and begun anew only after the file was synced.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import quote

import apsw
import msgspec

from streamstate.errors import StorageCorruptError, StorageError

GUARD_FILE = "guard"
LOG_SUFFIX = "-wal"

WHOLE_BYTES_MAX = 64 * 1024 * 1024  # what is read whole when it is opened: a fraction of a second up to this size
_CHUNK_BYTES = 1024 * 1024
_GUARD_BYTES = 512  # one sector: written whole or not at all
_LOG_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_LOG_MAGICS = (0x377F0682, 0x377F0683)  # the second one sums up big-endian words
_WORD = 0xFFFFFFFF


class Guard(msgspec.Struct, frozen=True):
    """What is known of the database without looking into it.

    Attributes:
        commits: the store has at least so many.
        is_open: it was not closed, so that commits may be in the log alone.
        file_sum: of the database file when it was closed; None where that was too large.
    """

    directory_id: str
    commits: int
    is_open: bool
    file_sum: int | None = None


class Commits(msgspec.Struct, frozen=True):
    """The numbers of commits that a database says of itself: of its last one, and of the last whole checkpoint."""

    directory_id: str
    last: int
    checkpointed: int


_QUERY = "SELECT directory_id, commits, checkpointed FROM meta"


def read_guard(directory: Path) -> Guard | None:
    """What was written last; None where nothing was, or where it is damaged: then there is less to compare."""
    try:
        written = (directory / GUARD_FILE).read_bytes()
    except OSError:
        return None
    text, _, sum_of_it = written.rstrip().rpartition(b" ")
    try:
        return msgspec.json.decode(text, type=Guard) if int(sum_of_it, 16) == zlib.crc32(text) else None
    except (ValueError, msgspec.MsgspecError):
        return None


def write_guard(directory: Path, guard: Guard) -> None:
    """Keep it, durably.

    Raises:
        StorageError: it cannot be written.
    """
    text = msgspec.json.encode(guard)
    written = b"%s %08x" % (text, zlib.crc32(text))
    try:
        fd = os.open(directory / GUARD_FILE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(fd, written.ljust(_GUARD_BYTES - 1) + b"\n", 0)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageError(
            f"{directory / GUARD_FILE}: cannot be written ({error.strerror}); check the disk and this user's access"
        ) from error


def commits_of(connection: apsw.Connection) -> Commits | None:
    """What the database says; None where there is nothing that streamstate has written."""
    rows = connection.execute(_QUERY).fetchall()
    try:
        return Commits(*msgspec.convert(rows[0], tuple[str, int, int])) if len(rows) == 1 else None
    except msgspec.ValidationError:
        return None


def commits_in_file(path: Path, vfs: str) -> Commits | None:
    """What the database file says of itself without its log; None where it cannot be read.

    It need not be readable: a checkpoint that was interrupted may have left it torn, and the log has all of it.
    """
    try:
        connection = apsw.Connection(
            f"file:{quote(str(path))}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI, vfs=vfs
        )
    except apsw.Error:
        return None
    try:
        return commits_of(connection)
    except apsw.Error:
        return None
    finally:
        connection.close()


def check_log_is_there(path: Path, guard: Guard | None) -> None:
    """G2.

    Raises:
        StorageCorruptError: the log is missing, or its beginning is not one.
    """
    log = Path(f"{path}{LOG_SUFFIX}")
    size = log.stat().st_size if log.exists() else 0
    if size <= _LOG_HEADER_BYTES + _FRAME_HEADER_BYTES:
        if guard is not None and guard.is_open:
            raise StorageCorruptError(
                f"{path}: it was not closed, and its log {log.name} is missing. If the log was removed, restore a "
                "backup of the whole directory. If a database tool has opened it since, which moves the log into the "
                "file, nothing is lost: streamstate.storage.reseal(directory) makes its checksums valid again. "
                "Such tools must open it read-only"
            )
    elif not _is_log_header(log):
        raise StorageCorruptError(
            f"{log}: its header is damaged, so that SQLite would ignore all commits in it; "
            "restore a backup of the whole directory"
        )


def check_log_end(path: Path, connection: apsw.Connection) -> int:
    """G6; how many frames of the log are valid.

    Raises:
        StorageCorruptError: commits follow a damaged place.
    """
    frames, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    log = Path(f"{path}{LOG_SUFFIX}")
    lost = sum(1 for _ in _commits_behind(log, max(frames, 0)))
    if lost > 1:
        raise StorageCorruptError(
            f"{log}: it is damaged at frame {frames + 1}, and {lost} commits behind it cannot be read; "
            "restore a backup of the whole directory"
        )
    return max(frames, 0)


def sum_of_file(path: Path) -> int | None:
    """A checksum of a file that is small enough to be read whole."""
    total = 0
    with path.open("rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > WHOLE_BYTES_MAX:
            return None
        while chunk := file.read(_CHUNK_BYTES):
            total = zlib.crc32(chunk, total)
    return total


def check_file_sum(path: Path, guard: Guard | None) -> None:
    """G5.

    Raises:
        StorageCorruptError: the file has changed since it was closed.
    """
    if guard is None or guard.is_open or guard.file_sum is None or not path.exists():
        return
    if path.stat().st_size and sum_of_file(path) not in (guard.file_sum, None):
        raise StorageCorruptError(
            f"{path}: it has changed since it was closed: the disk has damaged it, it was replaced, or a database tool "
            "has written to it; restore a backup of the whole directory into another one"
        )


def check_size(path: Path, connection: apsw.Connection, frames: int) -> None:
    """G4, where there is no log. SQLite reads what is missing as zeros.

    Raises:
        StorageCorruptError: the file was cut, or has grown.
    """
    size, page_bytes = path.stat().st_size, int(connection.pragma("page_size"))
    expected = int(connection.pragma("page_count")) * page_bytes
    if frames == 0 and size != expected:
        raise StorageCorruptError(
            f"{path}: it has {size} bytes and should have {expected}; restore a backup of the whole directory"
        )


def check_commits(path: Path, now: Commits, in_file: Commits | None, guard: Guard | None) -> None:
    """G1 and G3.

    Args:
        path: the database file.
        now: what the database says together with its log.
        in_file: what it says without.
        guard: what was known of it.

    Raises:
        StorageCorruptError: they do not belong together.
    """
    if guard is not None and guard.directory_id == now.directory_id and guard.commits > now.last:
        _refuse(path, f"it ends with commit {now.last}, and commit {guard.commits} was made durable")
    if guard is not None and guard.directory_id != now.directory_id:
        _refuse(path, f"it is of directory {now.directory_id}, and this is {guard.directory_id}")
    if in_file is None:
        return
    if in_file.directory_id != now.directory_id:
        _refuse(path, f"it is of directory {in_file.directory_id}, and its log of {now.directory_id}")
    if in_file.last < now.checkpointed:
        _refuse(path, f"it ends with commit {in_file.last}, and its log goes on from commit {now.checkpointed}")
    if in_file.last > now.last:
        _refuse(path, f"it ends with commit {in_file.last}, and its log with commit {now.last}")
    if guard is not None and not guard.is_open and in_file.last < guard.commits:
        _refuse(path, f"it ends with commit {in_file.last}, and was closed with commit {guard.commits}")


def _refuse(path: Path, problem: str) -> NoReturn:
    raise StorageCorruptError(
        f"{path}: the files of the directory are not of one moment: {problem}. A file was replaced, or a part of the "
        "log is lost. Put the files of one moment back; a backup goes into a new or emptied directory"
    )


def _is_log_header(log: Path) -> bool:
    with log.open("rb") as file:
        header = file.read(_LOG_HEADER_BYTES)
    words = [int.from_bytes(header[at : at + 4], "big") for at in range(0, _LOG_HEADER_BYTES, 4)]
    if words[0] not in _LOG_MAGICS:
        return False
    order: Literal["big", "little"] = "big" if words[0] == _LOG_MAGICS[1] else "little"
    first = second = 0
    for at in range(0, 24, 8):
        first = (first + int.from_bytes(header[at : at + 4], order) + second) & _WORD
        second = (second + int.from_bytes(header[at + 4 : at + 8], order) + first) & _WORD
    return [first, second] == words[6:8]


def _commits_behind(log: Path, frames: int) -> Iterator[int]:
    """The frames behind the first so many that belong to this log and end a commit, by their headers alone."""
    if not log.exists():
        return
    with log.open("rb") as file:
        header = file.read(_LOG_HEADER_BYTES)
        if len(header) < _LOG_HEADER_BYTES:
            return
        salts = header[16:24]
        frame_bytes = _FRAME_HEADER_BYTES + int.from_bytes(header[8:12], "big")
        size = os.fstat(file.fileno()).st_size
        for frame in range(frames, (size - _LOG_HEADER_BYTES) // frame_bytes):
            head = os.pread(file.fileno(), _FRAME_HEADER_BYTES, _LOG_HEADER_BYTES + frame * frame_bytes)
            if head[8:16] == salts and head[4:8] != b"\0\0\0\0":
                yield frame
