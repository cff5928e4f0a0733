"""One process, one data directory (S4): a lock that the operating system drops with the process."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import Self

import msgspec

from streamstate.errors import StorageError, StorageInUseError

LOCK_FILE = "lock"
_GLANCES_MAX, _GLANCE_S = 20, 0.005  # a look at the lock takes microseconds
_LOCK_BYTES_MAX = 1024  # a record is about 100 bytes; a host name has at most 255


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lock, or held it last; an epoch of 0 means that the store was never opened to the end.

    Attributes:
        released: it was given up by its owner, and not by the end of the process.
    """

    pid: int = 0
    host: str = ""
    epoch: int = 0
    released: bool = False


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
            _lock(fd)
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

    def record(self, epoch: int, *, released: bool = False) -> None:
        """Write down who holds the lock, for the message that a second process gets, and for the next start."""
        holder = Holder(os.getpid(), socket.gethostname(), epoch, released)
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


def owner_of(directory: Path) -> tuple[bool, Holder | None]:
    """Whether a process owns the directory now, and who does or did last; None if it was never opened.

    Raises:
        StorageError: this user may not read the lock file.
    """
    try:
        fd = os.open(directory / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False, None
    except OSError as error:
        raise StorageError(f"cannot read {directory / LOCK_FILE} ({error.strerror}); give this user access") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True, _read(fd)
    else:
        return False, _read(fd)
    finally:
        os.close(fd)  # and with it the lock, if it was given


def _lock(fd: int) -> None:
    """Take the lock; somebody who is only looking (`owner_of`) has it for no more than a moment."""
    for _ in range(_GLANCES_MAX):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_GLANCE_S)
        else:
            return
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


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
