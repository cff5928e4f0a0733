"""The power goes at every moment: what the disk may hold then opens as a prefix with what was acknowledged (I1, I7).

A disk keeps what was synced, and of the calls behind that any of them, whole or torn, in any order.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamstate.storage import SqliteStore
from streamstate.storage._guard import GUARD_FILE, Guard, write_guard
from streamstate.storage._lock import LOCK_FILE, DirectoryLock
from tests.storage.faults.images import CHANGES, PENDING_MAX, Disk, sampled, subsets, write_image
from tests.storage.faults.vfs import DIRECTORY, FaultVfs, Io, Op, faulty
from tests.storage.faults.workload import Expected, work

COMMITS = 10
SEED = int(os.environ.get("STREAMSTATE_FAULTS_SEED", "1"))
ALL = os.environ.get("STREAMSTATE_FAULTS") == "all"
SUBSETS_MAX = 4_096 if ALL else 12  # of one moment; behind that they are sampled
SAMPLES = 100 if ALL else 12
MOMENTS_EVERY = 1 if ALL else 3
DEPTH_EVERY = 40 if ALL else 150  # one image in so many is opened by a store whose power goes too

pytestmark = pytest.mark.timeout(7_200 if ALL else 120)


@pytest.fixture
def disk() -> Iterator[FaultVfs]:
    with faulty() as vfs:
        yield vfs


@pytest.fixture
def recorded(disk: FaultVfs, monkeypatch: pytest.MonkeyPatch) -> FaultVfs:
    """A FaultVfs whose log also has what goes past SQLite: the files `guard` and `lock`."""

    def guard(directory: Path, guard: Guard) -> None:
        write_guard(directory, guard)
        data = (directory / GUARD_FILE).read_bytes()
        disk.log += [Io(Op.WRITE, GUARD_FILE, 0, len(data), data), Io(Op.SYNC, GUARD_FILE)]

    record = DirectoryLock.record

    def lock(self: DirectoryLock, epoch: int, **more: Any) -> None:
        record(self, epoch, **more)
        data = os.pread(self._fd, 4096, 0)
        disk.log.append(Io(Op.WRITE, LOCK_FILE, 0, len(data), data))

    def directory(_directory: Path) -> None:
        disk.log.append(Io(Op.SYNC, DIRECTORY))

    monkeypatch.setattr("streamstate.storage._sqlite_open.sync_directory", directory)
    monkeypatch.setattr("streamstate.storage._sqlite.write_guard", guard)
    monkeypatch.setattr(DirectoryLock, "record", lock)
    monkeypatch.setattr("streamstate.storage._sqlite.CHECKPOINT_PAGES", 60)
    monkeypatch.setattr("os.fsync", lambda _fd: None)
    return disk


def _told(disk: FaultVfs) -> Any:
    def told(what: str, number: int) -> None:
        disk.log.append(Io(Op(what), "", number))

    return told


def _record(directory: Path, disk: FaultVfs) -> list[Io]:
    """Three runs on one directory: the first two close it, the last one is cut off."""
    for last in (3, COMMITS - 2):
        store = SqliteStore.open(directory, vfs=disk.name)
        work(store, last, _told(disk))
        store.close()
    store = SqliteStore.open(directory, vfs=disk.name)
    work(store, COMMITS, _told(disk))
    log = list(disk.log)
    store.close()
    return log


def _moments(log: list[Io]) -> Iterator[tuple[int, Disk]]:
    """The disk behind every call that changes something, and behind every acknowledgement."""
    disk = Disk()
    yield 0, disk
    for at, io in enumerate(log, 1):
        disk.do(io)
        if io.op is Op.ACKNOWLEDGED or (io.op is Op.SYNC) or (io.op in CHANGES and at % MOMENTS_EVERY == 0):
            yield at, disk


class Images:
    """Opens images and counts them."""

    def __init__(self, folder: Path, expected: Expected, disk: FaultVfs) -> None:
        self._folder = folder
        self._expected = expected
        self._disk = disk
        self.seen: Counter[str] = Counter()

    def open(self, files: dict[str, bytearray], at_least: int, at_most: int, depth: int = 2) -> None:
        """It opens to a prefix within these bounds, also if the power goes again while it is being opened."""
        self.seen["images"] += 1
        directory = self._folder / "image"
        write_image(directory, files)
        is_deep = depth and self.seen["images"] % DEPTH_EVERY == 0
        self._disk.log.clear()
        store = SqliteStore.open(directory, vfs=self._disk.name)
        number = self._expected.check(store, at_least, at_most)
        self.seen["with the commit that was under way" if number > at_least else "without it"] += 1
        store.close()
        shutil.rmtree(directory)
        if is_deep:
            self._open_again(files, list(self._disk.log), number, depth)

    def _open_again(self, files: dict[str, bytearray], log: list[Io], number: int, depth: int) -> None:
        choose = random.Random(number)
        disk = Disk(files={name: bytearray(data) for name, data in files.items()})
        for io in log:
            disk.do(io)
            if disk.pending:
                self.seen["of them in a recovery"] += 1
                # What was read back once must not vanish: the recovered commit may have been acted upon.
                self.open(disk.image(sampled(disk.pending, choose)), number, number, depth - 1)


def test_i7_whenever_the_power_goes_the_store_opens_as_a_prefix_with_all_that_was_acknowledged(
    recorded: FaultVfs, folder: Path
) -> None:
    expected = Expected.of(folder / "expected", COMMITS)
    recorded.log.clear()
    log = _record(folder / "data", recorded)
    assert sum(io.op is Op.DELETE and io.file.endswith("-wal") for io in log) == 2, "two runs closed the store"
    resets = sum(io.op is Op.WRITE and io.file.endswith("-wal") and io.offset == 0 for io in log)
    assert resets > 3, "the log was never begun anew"
    choose = random.Random(SEED)
    images = Images(folder, expected, recorded)
    for at, disk in _moments(log):
        bounds = disk.acknowledged, disk.begun
        if len(disk.pending) <= PENDING_MAX and 2 ** len(disk.pending) <= SUBSETS_MAX:
            for kept in subsets(disk.pending):
                images.open(disk.image(kept), *bounds)
                images.seen["all subsets"] += 1
        elif at % (MOMENTS_EVERY * 5) == 0 or ALL:
            for _ in range(SAMPLES):
                images.open(disk.image(sampled(disk.pending, choose)), *bounds)
    assert images.seen["with the commit that was under way"], "no image had more than was acknowledged"
    assert images.seen["of them in a recovery"]
    sys.stdout.write(f"{len(log)} calls, seed {SEED}: {dict(images.seen)}\n")
