"""What a disk may hold after the power went: built from the log of a FaultVfs."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from tests.storage.faults.vfs import DIRECTORY, Io, Op

PENDING_MAX = 12  # up to here all subsets are tried: 4,096
CHANGES = (Op.WRITE, Op.TRUNCATE, Op.DELETE)


@dataclass(slots=True)
class Disk:
    """The files as far as they are surely durable, and the calls behind that which may be durable or not."""

    files: dict[str, bytearray] = field(default_factory=dict)
    pending: list[Io] = field(default_factory=list)
    acknowledged: int = 0
    begun: int = 0

    def do(self, io: Io) -> None:
        """The next call of the log."""
        if io.op is Op.ACKNOWLEDGED:
            self.acknowledged = io.offset
        elif io.op is Op.BEGUN:
            self.begun = io.offset
        elif io.op is Op.DELETE and io.length:
            self._settle([done for done in self.pending if done.file == io.file])
            self.files.pop(io.file, None)
        elif io.op is Op.SYNC and io.file == DIRECTORY:
            self._settle([done for done in self.pending if done.op is Op.DELETE])
        elif io.op is Op.SYNC:
            self._settle([done for done in self.pending if done.file == io.file])
        elif io.op in CHANGES:
            self.pending.append(io)

    def _settle(self, durable: list[Io]) -> None:
        for io in durable:
            change(self.files, io)
        self.pending = [io for io in self.pending if all(io is not done for done in durable)]

    def image(self, kept: Sequence[Io]) -> dict[str, bytearray]:
        """The durable files with some of the pending calls, in the given order."""
        files = {name: bytearray(data) for name, data in self.files.items()}
        for io in kept:
            change(files, io)
        return files


def change(files: dict[str, bytearray], io: Io) -> None:
    """What the call does to the files."""
    if io.op is Op.DELETE:
        files.pop(io.file, None)
        return
    data = files.setdefault(io.file, bytearray())
    if io.op is Op.TRUNCATE:
        del data[io.length :]
        data.extend(bytes(io.length - len(data)))
    else:
        data.extend(bytes(max(0, io.offset + io.length - len(data))))
        data[io.offset : io.offset + io.length] = io.data


def torn(io: Io, block_bytes: int, choose: random.Random) -> Iterator[Io]:
    """The parts of a write that the disk has kept: each of its blocks, or not."""
    if io.op is not Op.WRITE:
        yield io
        return
    start = io.offset
    while start < io.offset + io.length:
        end = min((start // block_bytes + 1) * block_bytes, io.offset + io.length)
        if choose.random() < 0.5:
            yield Io(Op.WRITE, io.file, start, end - start, io.data[start - io.offset : end - io.offset])
        start = end


def subsets(pending: Sequence[Io]) -> Iterator[tuple[Io, ...]]:
    """All subsets, in the order of the calls."""
    for size in range(len(pending) + 1):
        yield from combinations(pending, size)


def sampled(pending: Sequence[Io], choose: random.Random) -> list[Io]:
    """Some subset, whole or torn, in the order of the calls or another one."""
    share = choose.choice((0.1, 0.5, 0.9, 1.0))
    kept = [io for io in pending if choose.random() < share]
    block_bytes = choose.choice((0, 512, 4096))
    if block_bytes:
        kept = [part for io in kept for part in torn(io, block_bytes, choose)]
    if choose.random() < 0.3:
        choose.shuffle(kept)
    return kept


def write_image(directory: Path, files: dict[str, bytearray]) -> None:
    directory.mkdir()
    for name, data in files.items():
        (directory / name).write_bytes(data)
