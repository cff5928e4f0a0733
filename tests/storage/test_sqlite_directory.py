"""The data directory: one owner (S4), and nothing odd is opened (I11)."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from streamstate.errors import (
    CommitFailedError,
    StorageCorruptError,
    StorageError,
    StorageFormatError,
    StorageInUseError,
)
from streamstate.storage import Batch, SqliteStore
from streamstate.storage._checksums import checksum_vfs
from streamstate.storage._guard import GUARD_FILE
from tests.storage.rows import accepted, one_value, row

DATABASE = "streamstate.db"

_OPEN_AND_HOLD = """
import sys
from pathlib import Path
from streamstate.storage import SqliteStore
store = SqliteStore.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A data directory with something in it, closed."""
    directory = tmp_path / "data"
    store = SqliteStore.open(directory)
    store.commit(accepted(row("inv_1")))
    store.commit(one_value(1))
    store.commit(Batch(state={("Order", f"key-{number}"): {"n": b"x" * 500} for number in range(2_000)}))
    store.close()
    return directory


def _refused(directory: Path, kind: type[StorageError]) -> str:
    """The message of the refusal; the refused directory is not left locked."""
    with pytest.raises(kind) as refused:
        SqliteStore.open(directory)
    assert type(refused.value) is kind
    with pytest.raises(StorageError) as again:
        SqliteStore.open(directory)
    assert not isinstance(again.value, StorageInUseError)
    return str(refused.value)


def _edit(directory: Path, sql: str) -> None:
    """Change a closed database as a program does that keeps its checksums valid."""
    connection = apsw.Connection(str(directory / DATABASE), vfs=checksum_vfs())
    connection.execute(sql)
    connection.close()
    (directory / GUARD_FILE).unlink()


def test_s4_a_second_opening_in_the_same_process_is_refused_by_name(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    with pytest.raises(StorageInUseError) as refused:
        SqliteStore.open(tmp_path)
    store.close()
    assert str(tmp_path) in str(refused.value)
    assert f"this process (pid {os.getpid()}, owner epoch 1)" in str(refused.value)
    assert "choose another directory" in str(refused.value)
    SqliteStore.open(tmp_path).close()


def test_s4_another_process_is_refused_until_the_owner_ends_even_by_sigkill(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _OPEN_AND_HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        with pytest.raises(StorageInUseError, match=f"process {owner.pid} on host '{socket.gethostname()}'"):
            SqliteStore.open(tmp_path)
        owner.kill()
        owner.wait()
    store = SqliteStore.open(tmp_path)
    assert store.header.epoch == 2
    store.close()


@pytest.mark.parametrize("clock_ms", [0, 2], ids=["the clock stands", "the clock goes on"])
def test_s4_a_commit_under_another_owners_epoch_is_refused_and_leaves_nothing(tmp_path: Path, clock_ms: int) -> None:
    store = SqliteStore.open(tmp_path)
    store.commit(one_value(1))
    (tmp_path / "lock").unlink()
    intruder = SqliteStore.open(tmp_path)
    with pytest.raises(CommitFailedError, match="its owner epoch is no longer 1: another process has opened"):
        store.commit(Batch(state={("Order", "key-2"): {"n": b"2"}}, clock_ms=clock_ms))
    intruder.commit(one_value(3))
    assert intruder.state("Order", "key-2") == {}
    intruder.close()
    store.close()


def test_s4_the_epoch_is_durable_before_open_returns(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "image")
    copy = SqliteStore.open(tmp_path / "image")
    assert (copy.header.epoch, copy.header.directory_id) == (2, store.header.directory_id)
    copy.close()
    store.close()


def test_s1_the_pragmas_that_make_commits_durable_are_set(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    writer, reader = store._writer, store._reading._connection
    assert writer.pragma("journal_mode") == "wal"
    assert writer.pragma("synchronous") == 2
    assert writer.pragma("fullfsync") == 1
    assert writer.pragma("application_id") == 0x73747374
    assert writer.pragma("user_version") == 2
    assert reader.readonly("main")
    assert reader.pragma("wal_autocheckpoint") == 0
    with pytest.raises(apsw.ReadOnlyError):
        reader.execute("DELETE FROM meta")
    store.close()


def test_s1_closing_leaves_one_database_file_and_no_log(used: Path) -> None:
    assert sorted(path.name for path in used.iterdir()) == [GUARD_FILE, "lock", DATABASE]


def test_s1_a_full_disk_fails_the_commit_and_keeps_what_was_there(used: Path) -> None:
    store = SqliteStore.open(used)
    store._writer.pragma("max_page_count", store._writer.pragma("page_count"))
    with pytest.raises(CommitFailedError, match="the disk is full; free some space") as failed:
        store.commit(Batch(state={("Order", "a"): {"n": b"2", "large": b"x" * 1_000_000}}))
    assert isinstance(failed.value.__cause__, apsw.FullError)
    assert store.state("Order", "a") == {"n": b"1"}
    with pytest.raises(CommitFailedError, match="an earlier one failed"):
        store.commit(one_value(2))
    store.close()


@pytest.mark.parametrize("version", [0, 3, 99])
def test_i11_another_format_version_is_refused_and_left_alone(used: Path, version: int) -> None:
    _edit(used, f"PRAGMA user_version = {version}")
    assert f"found format version {version}, expected 2" in _refused(used, StorageFormatError)


def test_i11_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    before = (tmp_path / DATABASE).read_bytes()
    assert "found application id 0x00000000, expected 0x73747374" in _refused(tmp_path, StorageFormatError)
    assert (tmp_path / DATABASE).read_bytes() == before


def test_i11_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"dear diary, " * 1_000)
    assert "not written by streamstate" in _refused(tmp_path, StorageFormatError)
    assert (tmp_path / DATABASE).read_bytes() == b"dear diary, " * 1_000


def test_i11_a_truncated_database_is_refused_as_corrupt(used: Path) -> None:
    size = (used / DATABASE).stat().st_size
    os.truncate(used / DATABASE, size // 2)
    assert "restore a backup" in _refused(used, StorageCorruptError)


@pytest.mark.parametrize("page", [1, 5, 40, 200])
def test_i11_a_database_with_an_overwritten_page_is_refused_as_corrupt(used: Path, page: int) -> None:
    with (used / DATABASE).open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xa5" * 4096)
    assert "restore a backup" in _refused(used, StorageCorruptError)


@pytest.mark.parametrize("loss", ["removed", "emptied"])
def test_i11_a_database_that_vanished_is_not_silently_made_anew(used: Path, loss: str) -> None:
    if loss == "removed":
        (used / DATABASE).unlink()
    else:
        os.truncate(used / DATABASE, 0)
    assert "the database is empty, but it was opened 1 times before" in _refused(used, StorageCorruptError)


def test_i11_a_missing_table_is_named(used: Path) -> None:
    _edit(used, "DROP TABLE waiters")
    assert "tables are missing: waiters" in _refused(used, StorageCorruptError)


def test_i11_a_value_that_streamstate_never_wrote_is_named_as_corrupt(used: Path) -> None:
    _edit(used, "UPDATE invocations SET status = 'dancing'")
    store = SqliteStore.open(used)
    with pytest.raises(StorageCorruptError, match="'dancing' is not a valid Status"):
        store.invocations.get("inv_1")
    store.close()


def test_a_directory_that_cannot_be_made_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot make the data directory .* choose a path"):
        SqliteStore.open(tmp_path / "file" / "data")


def test_a_directory_without_write_access_is_refused_with_the_remedy(tmp_path: Path) -> None:
    # A directory in the place of the lock file refuses even those whom permissions do not stop.
    (tmp_path / "lock").mkdir()
    with pytest.raises(StorageError, match="give this user write access"):
        SqliteStore.open(tmp_path)


def test_a_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "a" / "b" / "data")
    store.commit(one_value(1))
    store.close()
    assert (tmp_path / "a" / "b" / "data" / DATABASE).is_file()
