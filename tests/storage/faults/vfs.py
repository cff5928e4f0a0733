"""An SQLite VFS that writes down what reaches the disk, and fails when a plan says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import apsw

from streamstate.storage._checksums import checksum_vfs

PAGE_BYTES = 4096
DIRECTORY = "/"  # as the name of a file: the names in the directory


class Op(StrEnum):
    """What a file system is asked to do."""

    OPEN = "open"
    READ = "read"
    WRITE = "write"
    SYNC = "sync"
    TRUNCATE = "truncate"
    DELETE = "delete"
    ACKNOWLEDGED = "acknowledged"  # not an I/O: a commit has returned; `offset` is its number
    BEGUN = "begun"  # likewise: a commit begins


@dataclass(frozen=True, slots=True)
class Io:
    """One call. file: a name in the data directory. length: a truncation's new size; 1 for a durable deletion."""

    op: Op
    file: str
    offset: int = 0
    length: int = 0
    data: bytes = b""


class Fault(StrEnum):
    """How a call fails."""

    EIO = "EIO"
    ENOSPC = "ENOSPC"
    SHORT = "short"  # a read gives less than there is; a write leaves its first half, and fails


_CODES = {
    Op.OPEN: apsw.SQLITE_CANTOPEN,
    Op.READ: apsw.SQLITE_IOERR_READ,
    Op.WRITE: apsw.SQLITE_IOERR_WRITE,
    Op.SYNC: apsw.SQLITE_IOERR_FSYNC,
    Op.TRUNCATE: apsw.SQLITE_IOERR_TRUNCATE,
    Op.DELETE: apsw.SQLITE_IOERR_DELETE,
}


class Plan(Protocol):
    """Decides which call fails."""

    def fault(self, io: Io) -> Fault | None: ...


@dataclass(slots=True)
class NthCall:
    """The n-th call of some kinds fails, counted from 1; `lasting` lets every one behind it fail too.

    Attributes:
        has_fired: False when a run was over before.
    """

    kind: Fault
    ops: frozenset[Op]
    number: int
    lasting: bool = False
    has_fired: bool = False
    seen: int = 0

    def fault(self, io: Io) -> Fault | None:
        # A page that is read short is zeros to SQLite, as at the end of a file; its Unix VFS gives one only there.
        if io.op not in self.ops or (io.op is Op.READ and io.length == PAGE_BYTES and self.kind is Fault.SHORT):
            return None
        self.seen += 1
        if self.seen == self.number or (self.lasting and self.seen > self.number):
            self.has_fired = True
            return self.kind
        return None


@dataclass(slots=True)
class NoFault:
    """Nothing fails."""

    def fault(self, io: Io) -> Fault | None:
        return None


class FaultVfs(apsw.VFS):
    """On top of the checksum VFS; it syncs nothing, since nobody pulls the plug of this machine.

    Attributes:
        log: every call but reads, in order.
        ignored: how many faults SQLite passed over, as it may where a call only helps it on.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.base = checksum_vfs()
        self.log: list[Io] = []
        self.plan: Plan = NoFault()
        self.ignored = 0
        super().__init__(name, base=self.base)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  # SQLite's
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        self.check(Io(Op.OPEN, Path(path).name))
        return FaultFile(self, name, flags, Path(path).name)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802  # SQLite's
        io = Io(Op.DELETE, Path(filename).name, 0, int(syncdir))
        self.check(io)
        super().xDelete(filename, syncdir)
        self.log.append(io)

    def excepthook(self, *_error: object) -> bool:
        self.ignored += 1
        return True

    def check(self, io: Io) -> Fault | None:
        """Fail as the plan says; a short call is left to the caller."""
        fault = self.plan.fault(io)
        if fault is Fault.EIO:
            raise apsw.exception_for(_CODES[io.op])
        if fault is Fault.ENOSPC:
            raise apsw.exception_for(apsw.SQLITE_FULL)
        return fault


class FaultFile(apsw.VFSFile):
    """One open file."""

    def __init__(self, vfs: FaultVfs, name: str | apsw.URIFilename | None, flags: list[int], short_name: str) -> None:
        super().__init__(vfs.base, name, flags)
        self._vfs = vfs
        self._name = short_name

    def excepthook(self, *_error: object) -> bool:
        self._vfs.ignored += 1
        return True

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802  # SQLite's
        if self._vfs.check(Io(Op.READ, self._name, offset, amount)) is Fault.SHORT:
            return super().xRead(amount, offset)[: amount // 2]
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  # SQLite's
        if self._vfs.check(Io(Op.WRITE, self._name, offset, len(data))) is Fault.SHORT:
            super().xWrite(data[: len(data) // 2], offset)
            raise apsw.exception_for(apsw.SQLITE_IOERR_WRITE)
        super().xWrite(data, offset)
        # Written first: the checksum VFS puts the checksum into these very bytes.
        self._vfs.log.append(Io(Op.WRITE, self._name, offset, len(data), bytes(bytearray(data))))

    def xSync(self, flags: int) -> None:  # noqa: N802  # SQLite's
        io = Io(Op.SYNC, self._name)
        self._vfs.check(io)
        self._vfs.log.append(io)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802  # SQLite's
        io = Io(Op.TRUNCATE, self._name, 0, newsize)
        self._vfs.check(io)
        super().xTruncate(newsize)
        self._vfs.log.append(io)


@contextmanager
def faulty(name: str = "faulty") -> Iterator[FaultVfs]:
    """A FaultVfs while the block runs; all connections through it must be closed at its end."""
    vfs = FaultVfs(name)
    try:
        yield vfs
    finally:
        vfs.unregister()


def calls(log: Sequence[Io], *ops: Op) -> int:
    return sum(1 for io in log if io.op in ops)
