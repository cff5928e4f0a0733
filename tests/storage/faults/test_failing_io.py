"""Each call to the file system fails once, and from then on for ever: nothing acknowledged is lost (I1, I7, I11)."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from streamstate.errors import StorageCorruptError, StorageError
from streamstate.storage import SqliteStore
from tests.storage.faults.vfs import Fault, FaultVfs, NoFault, NthCall, Op, faulty
from tests.storage.faults.workload import Expected, work

COMMITS = 8
# Every 13th call in `make test`; all of them where STREAMSTATE_FAULTS is "all".
STEP = 1 if os.environ.get("STREAMSTATE_FAULTS") == "all" else 13
CALLS_MAX = 2_000  # more than the workload makes: a run that never gets through is a mistake of this test

KINDS = {
    "a read gives EIO": (Fault.EIO, {Op.READ}),
    "a read is short": (Fault.SHORT, {Op.READ}),
    "a write gives EIO": (Fault.EIO, {Op.WRITE}),
    "a write gives ENOSPC": (Fault.ENOSPC, {Op.WRITE}),
    "a write is torn": (Fault.SHORT, {Op.WRITE}),
    "a sync fails": (Fault.EIO, {Op.SYNC}),
    "an open, truncation or deletion fails": (Fault.EIO, {Op.OPEN, Op.TRUNCATE, Op.DELETE}),
}


@dataclass(slots=True)
class Outcome:
    """What one run with a fault came to."""

    acknowledged: int = 0
    begun: int = 0
    refusal: StorageError | None = None

    def told(self, what: str, number: int) -> None:
        setattr(self, what, number)


@pytest.fixture
def disk() -> Iterator[FaultVfs]:
    with faulty() as vfs:
        yield vfs


@pytest.fixture(scope="module")
def expected(folder: Path) -> Expected:
    return Expected.of(folder / "expected", COMMITS)


@pytest.fixture(autouse=True)
def _small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that moves into the file after a few commits, and a disk that does not have to be waited for."""
    monkeypatch.setattr("streamstate.storage._sqlite.CHECKPOINT_PAGES", 60)
    monkeypatch.setattr("os.fsync", lambda _fd: None)


def _run(directory: Path, disk: FaultVfs) -> Outcome:
    """Two runs of a program on one directory, until a refusal by name; anything else that is raised is a failure."""
    outcome = Outcome()
    for last in (COMMITS // 2, COMMITS):
        try:
            store = SqliteStore.open(directory, vfs=disk.name)
        except StorageError as error:
            outcome.refusal = error
            return outcome
        try:
            work(store, last, outcome.told)
        except StorageError as error:
            outcome.refusal = error
        try:
            store.close()
        except StorageError as error:
            outcome.refusal = error
        if outcome.refusal is not None:
            return outcome
    return outcome


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("kind", KINDS)
def test_i7_whichever_call_fails_nothing_acknowledged_is_lost(
    disk: FaultVfs, expected: Expected, folder: Path, kind: str, lasting: bool
) -> None:
    fault, ops = KINDS[kind]
    seen: Counter[str] = Counter()
    for number in count(1, STEP):
        assert number < CALLS_MAX
        directory = folder / "run"
        plan = disk.plan = NthCall(fault, frozenset(ops), number, lasting)
        disk.log.clear()
        shutil.rmtree(directory, ignore_errors=True)
        outcome = _run(directory, disk)
        if not plan.has_fired:
            assert outcome.refusal is None
            assert outcome.acknowledged == COMMITS
            break
        seen["refused" if outcome.refusal is not None else "went on"] += 1
        try:
            disk.plan = NoFault()
            store = SqliteStore.open(directory, vfs=disk.name)
        except StorageCorruptError as error:
            # Half a header of the log is on disk; whether commits depend on it can no longer be told.
            assert kind == "a write is torn"
            assert "its header is damaged" in str(error)
            seen["refused for good"] += 1
            continue
        expected.check(store, outcome.acknowledged, outcome.begun)
        store.close()
    assert seen, f"no call was of this kind: {kind}"
    sys.stdout.write(f"{kind}, {'for ever' if lasting else 'once'}: {sum(seen.values())} runs, {dict(seen)}\n")
