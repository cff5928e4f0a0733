"""What the guard tells (G1 to G6), and what a database tool does to a directory that was not closed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import apsw
import pytest

from streamstate.errors import CommitFailedError, StorageCorruptError, StorageError, StorageInUseError
from streamstate.storage import SqliteStore, reseal
from streamstate.storage._guard import GUARD_FILE, Guard, read_guard, sum_of_file, write_guard
from tests.storage.faults.vfs import Fault, NthCall, Op, faulty
from tests.storage.faults.workload import Expected, batch, last_number, work

DATABASE = "streamstate.db"
LOG = "streamstate.db-wal"


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A directory whose process was killed behind six commits, two of them in a new log."""
    store = SqliteStore.open(tmp_path / "data")
    work(store, 4)
    assert store._checkpoint()
    work(store, 6)
    shutil.copytree(tmp_path / "data", tmp_path / "killed")
    store.close()
    return tmp_path / "killed"


def _refused(directory: Path) -> str:
    with pytest.raises(StorageCorruptError) as refused:
        SqliteStore.open(directory)
    return str(refused.value)


def test_g1_a_database_file_that_is_older_than_its_log_is_refused(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "data")
    work(store, 2)
    store._checkpoint()
    shutil.copy(tmp_path / "data" / DATABASE, tmp_path / "older")
    work(store, 4)
    store._checkpoint()
    work(store, 6)
    shutil.copytree(tmp_path / "data", tmp_path / "killed")
    store.close()
    SqliteStore.open(Path(shutil.copytree(tmp_path / "killed", tmp_path / "same"))).close()
    shutil.copy(tmp_path / "older", tmp_path / "killed" / DATABASE)
    assert "ends with commit 3, and its log goes on from commit 5" in _refused(tmp_path / "killed")


def test_g1_a_log_that_is_older_than_its_database_file_is_refused(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "data")
    work(store, 2)
    shutil.copy(tmp_path / "data" / LOG, tmp_path / "older")
    work(store, 4)
    store._checkpoint()
    shutil.copytree(tmp_path / "data", tmp_path / "killed")
    store.close()
    shutil.copy(tmp_path / "older", tmp_path / "killed" / LOG)
    assert "ends with commit 5, and its log with commit 3" in _refused(tmp_path / "killed")


def test_g1_a_checkpoint_that_a_reader_holds_back_does_not_count(tmp_path: Path) -> None:
    expected = Expected.of(tmp_path / "expected", 6)
    store = SqliteStore.open(tmp_path / "data")
    work(store, 2)
    assert store._checkpoint()
    reader = store._reading._connection
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM meta").fetchall()
    for number in range(3, 5):
        store.commit(batch(number))
    assert not store._checkpoint(), "the reader needs what was there before"
    for number in range(5, 7):
        store.commit(batch(number))
    shutil.copytree(tmp_path / "data", tmp_path / "killed")
    reader.execute("COMMIT")
    store.close()
    store = SqliteStore.open(tmp_path / "killed")
    expected.check(store, 6, 6)
    store.close()


@pytest.mark.parametrize("loss", ["removed", "emptied"])
def test_g2_a_missing_log_is_refused(killed: Path, loss: str) -> None:
    if loss == "removed":
        (killed / LOG).unlink()
    else:
        os.truncate(killed / LOG, 0)
    assert "its log streamstate.db-wal is missing" in _refused(killed)


def test_g2_a_damaged_beginning_of_the_log_is_refused(killed: Path) -> None:
    data = bytearray((killed / LOG).read_bytes())
    data[17] ^= 1
    (killed / LOG).write_bytes(data)
    assert "its header is damaged" in _refused(killed)


def test_g3_an_older_copy_of_a_closed_database_is_refused(tmp_path: Path) -> None:
    for last in (2, 4):
        store = SqliteStore.open(tmp_path / "data")
        work(store, last)
        store.close()
        shutil.copy(tmp_path / "data" / DATABASE, tmp_path / f"after-{last}")
    (tmp_path / "data" / "lock").unlink()  # it knows of the epoch, too
    shutil.copy(tmp_path / "after-2", tmp_path / "data" / DATABASE)
    assert "has changed since it was closed" in _refused(tmp_path / "data")
    guard = read_guard(tmp_path / "data")
    assert guard is not None
    write_guard(tmp_path / "data", Guard(guard.directory_id, guard.commits, False))
    assert "ends with commit 3, and commit 6 was made durable" in _refused(tmp_path / "data")


def test_g4_a_database_file_that_was_cut_in_its_last_page_is_refused(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    work(store, 4)
    store.close()
    (tmp_path / GUARD_FILE).unlink()
    size = (tmp_path / DATABASE).stat().st_size
    os.truncate(tmp_path / DATABASE, size - 100)
    assert f"has {size - 100} bytes and should have {size}" in _refused(tmp_path)


def test_g6_a_log_that_is_damaged_in_front_of_two_commits_is_refused_and_in_the_last_one_it_is_a_prefix(
    killed: Path, tmp_path: Path
) -> None:
    expected = Expected.of(tmp_path / "expected", 6)
    data = bytearray((killed / LOG).read_bytes())
    last = Path(shutil.copytree(killed, tmp_path / "last"))
    data[32 + 24 + 9] ^= 1
    (killed / LOG).write_bytes(data)
    assert "damaged at frame 1, and 2 commits behind it cannot be read" in _refused(killed)
    data[32 + 24 + 9] ^= 1
    store = SqliteStore.open(Path(shutil.copytree(last, tmp_path / "whole")))
    expected.check(store, 6, 6)
    store.close()
    frames = (len(data) - 32) // 4120
    commits = [at for at in range(frames) if data[32 + at * 4120 + 4 : 32 + at * 4120 + 8] != bytes(4)]
    assert len(commits) > 2, "frames of the log before are still behind its end"
    data[32 + commits[1] * 4120 + 30] ^= 1
    (last / LOG).write_bytes(data)
    store = SqliteStore.open(last)
    assert expected.check(store, 5, 5) == 5
    store.close()


def test_a_guard_that_is_damaged_or_gone_says_nothing(tmp_path: Path) -> None:
    write_guard(tmp_path, Guard("id", 3, True))
    assert read_guard(tmp_path) == Guard("id", 3, True)
    data = bytearray((tmp_path / GUARD_FILE).read_bytes())
    data[20] ^= 1
    (tmp_path / GUARD_FILE).write_bytes(data)
    assert read_guard(tmp_path) is None
    (tmp_path / GUARD_FILE).unlink()
    assert read_guard(tmp_path) is None


def test_a_guard_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / GUARD_FILE).mkdir()
    with pytest.raises(StorageError, match="guard: cannot be written"):
        write_guard(tmp_path, Guard("id", 3, True))


def test_a_large_file_has_no_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamstate.storage._guard.WHOLE_BYTES_MAX", 100)
    store = SqliteStore.open(tmp_path)
    work(store, 2)
    store.close()
    assert sum_of_file(tmp_path / DATABASE) is None
    guard = read_guard(tmp_path)
    assert guard is not None
    assert guard.file_sum is None
    store = SqliteStore.open(tmp_path)
    assert last_number(store) == 2
    store.close()


def test_a_page_that_was_damaged_is_named_when_it_is_read_though_the_start_did_not_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamstate.storage._guard.WHOLE_BYTES_MAX", 0)
    monkeypatch.setattr("streamstate.storage._sqlite_open.WHOLE_BYTES_MAX", 0)
    store = SqliteStore.open(tmp_path)
    work(store, 6)
    store.close()
    data = bytearray((tmp_path / DATABASE).read_bytes())
    place = data.rindex(b"6 6 6 6")
    data[place] ^= 1
    (tmp_path / DATABASE).write_bytes(data)
    store = SqliteStore.open(tmp_path)
    with pytest.raises(StorageCorruptError, match="does not have the checksum that it was written with"):
        for number in range(60):
            store.state("Order", f"key-{number:02}")
    store.close()


def test_after_a_checkpoint_that_failed_no_commit_is_taken_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Expected.of(tmp_path / "expected", 4)
    monkeypatch.setattr("streamstate.storage._sqlite.CHECKPOINT_PAGES", 1)
    with faulty() as disk:
        store = SqliteStore.open(tmp_path / "data", vfs=disk.name)
        work(store, 2)
        disk.plan = NthCall(Fault.EIO, frozenset({Op.SYNC}), 3)  # behind two of the log: that of the database file
        store.commit(batch(3))
        assert disk.plan.has_fired
        with pytest.raises(CommitFailedError, match="the log could not be moved into the database file"):
            store.commit(batch(4))
        store.close()
    assert (tmp_path / "data" / LOG).stat().st_size, "a disk that failed is not trusted with the only copy"
    store = SqliteStore.open(tmp_path / "data")
    expected.check(store, 3, 3)
    store.close()


def test_what_a_database_tool_did_to_a_directory_that_was_not_closed_is_refused_and_can_be_resealed(
    killed: Path, tmp_path: Path
) -> None:
    expected = Expected.of(tmp_path / "expected", 6)
    tool = sqlite3.connect(killed / DATABASE)
    assert tool.execute("SELECT count(*) FROM positions").fetchall() == [(1,)]
    tool.close()
    assert not (killed / LOG).exists(), "the tool moved the log into the file"
    assert "If a database tool has opened it since" in _refused(killed)
    reseal(killed)
    store = SqliteStore.open(killed)
    assert expected.check(store, 6, 6) == 6
    with pytest.raises(StorageInUseError):
        reseal(killed)
    store.close()
    (killed / DATABASE).write_bytes((killed / DATABASE).read_bytes()[: 4096 * 9])
    with pytest.raises(StorageError):
        reseal(killed)


def test_an_apsw_without_the_checksum_vfs_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(apsw, "vfs_names", list)

    def missing(_connection: apsw.Connection, _name: str) -> None:
        raise apsw.sqlite_extra.NotAvailable("cksumvfs is not included")

    monkeypatch.setattr("apsw.sqlite_extra.load", missing)
    with pytest.raises(StorageError, match=r"no page checksums .*pip install"):
        SqliteStore.open(tmp_path)
