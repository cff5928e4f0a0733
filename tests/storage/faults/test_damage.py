"""Files that change while nobody uses them are refused by name, or what is read is a prefix (I7, I11)."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from streamstate.errors import StorageCorruptError, StorageError, StorageFormatError, StorageInUseError
from streamstate.storage import SqliteStore
from tests.storage.faults.damage import ALL as KINDS
from tests.storage.faults.workload import Expected, content, last_number, work

COMMITS = 14
SEED = int(os.environ.get("STREAMSTATE_FAULTS_SEED", "1"))
ALL = os.environ.get("STREAMSTATE_FAULTS") == "all"
RUNS = 2_500 if ALL else 30

pytestmark = pytest.mark.timeout(1_800 if ALL else 120)

# A page in another one's place, the one from before, and zeros have a valid checksum. Of a file that is too large to be
# read whole at the start, what they break is told where the structure of the database shows it, and else by nobody.
SAME_CHECKSUM = ("a zeroed page", "swapped pages", "an older page")


class Site:
    """A directory in several conditions, with older copies of each."""

    def __init__(self, folder: Path) -> None:
        self.expected = Expected.of(folder / "expected", COMMITS)
        self.older: list[Path] = []
        self.conditions: dict[str, Path] = {}
        self._folder = folder
        data = folder / "data"
        for last in range(2, COMMITS + 1, 4):
            store = SqliteStore.open(data)
            work(store, last - 1)
            self.older.append(self._copy(data, f"copy-in-{last}"))
            work(store, last)
            self.conditions["killed"] = self._copy(data, f"killed-{last}")
            store._checkpoint()
            self.conditions["killed behind a checkpoint"] = self._copy(data, f"checkpointed-{last}")
            store.close()
            self.conditions["closed"] = self._copy(data, f"closed-{last}")
            if last < COMMITS:
                self.older.append(self.conditions["closed"])

    def _copy(self, data: Path, name: str) -> Path:
        return Path(shutil.copytree(data, self._folder / name))


@pytest.fixture(scope="module")
def site(folder: Path) -> Site:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamstate.storage._sqlite.CHECKPOINT_PAGES", 60)
        return Site(folder)


def _verdict(site: Site, directory: Path) -> str:
    try:
        store = SqliteStore.open(directory)
    except StorageInUseError:
        raise
    except (StorageCorruptError, StorageFormatError):
        return "refused at the start"
    try:
        number = last_number(store)
        found = content(store)
    except StorageCorruptError:
        return "refused when read"
    finally:
        _close(store)
    if number > COMMITS or found != site.expected.after[number]:
        return "WRONG"
    return "whole" if number == COMMITS else "a shorter prefix"


def _close(store: SqliteStore) -> None:
    with suppress(StorageError):  # what it says does not matter any more: the verdict is on what was read
        store.close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _fd: None)


@pytest.mark.parametrize("condition", ["killed", "killed behind a checkpoint", "closed"])
@pytest.mark.parametrize("kind", KINDS)
def test_i11_damage_is_refused_by_name_or_leaves_a_prefix(site: Site, folder: Path, kind: str, condition: str) -> None:
    _damage(site, folder, kind, condition)


@pytest.mark.parametrize("condition", ["killed", "closed"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SAME_CHECKSUM])
def test_i11_damage_to_a_file_that_is_too_large_to_be_read_at_the_start_is_named_when_it_is_read(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, condition: str
) -> None:
    for module in ("_guard", "_sqlite_open"):
        monkeypatch.setattr(f"streamstate.storage.{module}.WHOLE_BYTES_MAX", 0)
    _damage(site, folder, kind, condition)


def _damage(site: Site, folder: Path, kind: str, condition: str) -> None:
    seen: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    wrong: list[str] = []
    for number in range(RUNS):
        choose = random.Random(f"{SEED} {kind} {condition} {number}")
        directory = folder / "damaged"
        shutil.copytree(site.conditions[condition], directory)
        what = KINDS[kind](directory, choose, site.older)
        verdict = _verdict(site, directory)
        seen[verdict] += 1
        if verdict == "WRONG":
            wrong.append(what)
        if verdict == "a shorter prefix":
            lost[what.split(":")[0]] += 1
        shutil.rmtree(directory)
    sys.stdout.write(f"{kind}, {condition}, seed {SEED}: {dict(seen)} {dict(lost) or ''}\n")
    assert not wrong
