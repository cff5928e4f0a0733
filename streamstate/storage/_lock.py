"""One process, one data directory (S4): a lock that the operating system drops with the process."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import Self

import msgspec

from streamstate.errors import StorageError, StorageInUseError

LOCK_FILE = "lock"
_LOCK_BYTES_MAX = 1024  # a record is about 100 bytes; a host name has at most 255


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lock, or held it last; an epoch of 0 means that the store was never opened to the end."""

    pid: int = 0
    host: str = ""
    epoch: int = 0


class DirectoryLock:
    """The lock on a data directory, held until `release` or until the process ends.

    Attributes:
        previous: who held it last.
    """

    __slots__ = ("_fd", "previous")

    def __init__(self, fd: int, previous: Holder) -> None:
        self._fd = fd
        self.previous = previous

    @classmethod
    def acquire(cls, directory: Path) -> Self:
        """Take the lock, at once.

        Raises:
            StorageInUseError: another process has it, or this one has it already.
            StorageError: the directory cannot be written to, or its file system has no locks.
        """
        path = directory / LOCK_FILE
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(
                f"cannot use the data directory {directory}: {path.name} cannot be opened for writing "
                f"({error.strerror}); give this user write access to the directory, or choose another one"
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _read(fd)
            os.close(fd)
            raise StorageInUseError(_in_use(directory, holder)) from error
        except OSError as error:
            os.close(fd)
            raise StorageError(
                f"cannot lock the data directory {directory} ({error.strerror}); "
                "put it on a local file system, network file systems are not safe for it"
            ) from error
        lock = cls(fd, _read(fd))
        lock.record(lock.previous.epoch)
        return lock

    def record(self, epoch: int) -> None:
        """Write down who holds the lock, for the message that a second process gets."""
        holder = Holder(os.getpid(), socket.gethostname(), epoch)
        try:
            # One write of one length: a reader never sees half a record.
            os.pwrite(self._fd, msgspec.json.encode(holder).ljust(_LOCK_BYTES_MAX - 1) + b"\n", 0)
        except OSError as error:
            raise StorageError(f"cannot write the lock file of the data directory ({error.strerror})") from error

    def release(self) -> None:
        """Give the lock up; the file stays, because removing it would let two processes in."""
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            os.close(self._fd)
            self._fd = -1


def _read(fd: int) -> Holder:
    try:
        return msgspec.json.decode(os.pread(fd, _LOCK_BYTES_MAX, 0), type=Holder)
    except msgspec.DecodeError:
        # New, or its owner has not written yet; the lock itself does not depend on the record.
        return Holder()


def _in_use(directory: Path, holder: Holder) -> str:
    if holder.pid == 0:
        owner = "another process"
    elif holder.pid == os.getpid() and holder.host == socket.gethostname():
        owner = f"this process (pid {holder.pid}, owner epoch {holder.epoch}), which opened it before"
    else:
        owner = f"process {holder.pid} on host {holder.host!r} (owner epoch {holder.epoch})"
    return (
        f"the data directory {directory} is in use by {owner}; "
        "one process owns a data directory at a time: stop that one, or choose another directory for this one"
    )
