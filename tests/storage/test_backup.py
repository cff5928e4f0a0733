"""Backups (B1 to B4) and what is made of them (V1 to V4)."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from streamstate import App, Context, Service
from streamstate.errors import StorageCorruptError, StorageError, StorageFormatError, StorageInUseError, UsageError
from streamstate.storage import (
    Batch,
    OutboxChoice,
    SqliteStore,
    _backup,
    read_backup,
    restore_backup,
    take_backup,
)
from streamstate.testing import Environment
from tests.storage.rows import accepted, message, one_value, row

DATABASE = "streamstate.db"
WAIT_S_MAX = 20.0

_KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
from streamstate.storage import restore_backup, take_backup
what = take_backup if sys.argv[1] == "backup" else restore_backup
what(Path(sys.argv[2]), Path(sys.argv[3]), progress=lambda done, all_: os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """An open store with something in it; some of it only in its log."""
    store = SqliteStore.open(tmp_path / "data")
    store.commit(accepted(row("inv_1"), row("inv_2", 2, key="other")))
    store.commit(Batch(state={("Order", f"key-{number}"): {"n": b"x" * 500} for number in range(2_000)}))
    store.commit(one_value(1))
    yield store
    store.close()


@pytest.fixture
def backup(store: SqliteStore, tmp_path: Path) -> Path:
    return take_backup(store.directory, tmp_path / "kept").path


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def _bytes(path: Path) -> bytes:
    """Read by another process: one that closes a file drops all of its locks on it, those of SQLite too."""
    return subprocess.run(["cat", path], check=True, capture_output=True).stdout


def _damage(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)


def _root_of_invocations(path: Path) -> int:
    """A page that counting rows does not look at: it counts them in an index."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    ((page,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'invocations'").fetchall()
    connection.close()
    return int(page)


def _killed(what: str, source: Path, destination: Path) -> None:
    command = [sys.executable, "-c", _KILLED_IN_THE_MIDDLE, what, str(source), str(destination)]
    assert subprocess.run(command, timeout=WAIT_S_MAX, check=False).returncode == -9


def test_b1_a_backup_is_one_moment_between_two_commits_while_commits_go_on(store: SqliteStore, tmp_path: Path) -> None:
    steps: list[int] = []
    number = 1

    def commit_more(done: int, _all: int) -> None:
        nonlocal number
        steps.append(done)
        for _ in range(4):
            number += 1
            store.commit(one_value(number))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_backup, "_PAGES_PER_STEP", 30)
        facts = store.backup(tmp_path / "kept", commit_more)
    assert len(steps) > 5
    assert store.header.directory_id == facts.directory_id
    restore_backup(facts.path, tmp_path / "again")
    copy = SqliteStore.open(tmp_path / "again")
    values = (copy.state("Order", "a"), list(copy.positions().values()), copy.header.clock_ms)
    assert values == ({"n": b"1"}, [1], 1)
    assert copy.state("Order", "key-2") == {"n": b"x" * 500}
    copy.close()
    assert store.state("Order", "a") == {"n": b"%d" % number}


def test_b1_a_backup_taken_while_another_thread_commits_is_whole(store: SqliteStore, tmp_path: Path) -> None:
    stop, failures = threading.Event(), []

    def write() -> None:
        number = 1
        try:
            while not stop.is_set():
                number += 1
                store.commit(one_value(number))
        except StorageError as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        taken = [store.backup(tmp_path / f"kept-{number}") for number in range(5)]
    finally:
        stop.set()
        thread.join()
    assert failures == []
    for facts in taken:
        restore_backup(facts.path, tmp_path / f"again-{facts.path.name}")
        copy = SqliteStore.open(tmp_path / f"again-{facts.path.name}")
        number = copy.header.clock_ms
        assert number == facts.until_ms
        assert copy.state("Order", "a") == copy.state("Order", f"key-{number}") == {"n": b"%d" % number}
        assert list(copy.positions().values()) == [number]
        copy.close()


def test_b2_taking_a_backup_leaves_the_log_and_the_database_to_their_owner(store: SqliteStore, tmp_path: Path) -> None:
    files = [store.directory / name for name in (DATABASE, f"{DATABASE}-wal", "lock")]
    before = [_bytes(path) for path in files]
    assert len(before[1]) > 0
    command = [sys.executable, "-m", "streamstate.cli", "backup", str(store.directory), str(tmp_path / "kept")]
    assert subprocess.run(command, timeout=WAIT_S_MAX, check=False, capture_output=True).returncode == 0
    assert [_bytes(path) for path in files] == before
    store.commit(one_value(2))
    assert read_backup(tmp_path / "kept").until_ms == 1


def test_b2_a_directory_that_was_killed_is_backed_up_with_what_is_in_its_log(
    store: SqliteStore, tmp_path: Path
) -> None:
    shutil.copytree(store.directory, tmp_path / "image")
    for name in (f"{DATABASE}-shm", "lock"):
        (tmp_path / "image" / name).unlink()
    wal = (tmp_path / "image" / f"{DATABASE}-wal").read_bytes()
    facts = take_backup(tmp_path / "image", tmp_path / "kept")
    assert (facts.until_ms, facts.rows["invocations"], facts.rows["object_state"]) == (1, 2, 2_001)
    assert (tmp_path / "image" / f"{DATABASE}-wal").read_bytes() == wal


def test_b3_a_backup_never_overwrites(store: SqliteStore, tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"precious")
    with pytest.raises(StorageError, match="kept is there already; choose a name that is not"):
        store.backup(tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == b"precious"
    assert _names(tmp_path) == ["data", "kept"]


def test_b3_a_backup_into_a_directory_that_is_not_there_is_refused_with_the_remedy(
    store: SqliteStore, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match="choose a directory that is there"):
        store.backup(tmp_path / "nowhere" / "kept")


def test_b3_a_backup_that_is_interrupted_leaves_nothing(store: SqliteStore, tmp_path: Path) -> None:
    def interrupt(_done: int, _all: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.backup(tmp_path / "kept", interrupt)
    assert _names(tmp_path) == ["data"]


def test_b3_a_backup_that_is_killed_leaves_a_file_that_passes_for_nothing(store: SqliteStore, tmp_path: Path) -> None:
    _killed("backup", store.directory, tmp_path / "kept")
    assert "kept" not in _names(tmp_path)
    partial = tmp_path / "kept.partial"
    with pytest.raises(StorageError, match=r"another backup is being written to .*, or one was cut short"):
        store.backup(tmp_path / "kept")
    with pytest.raises(StorageFormatError, match="backup"):
        restore_backup(partial, tmp_path / "again")
    partial.unlink()
    store.backup(tmp_path / "kept")


@pytest.mark.parametrize("harm", ["a damaged page", "a lost row", "another row"])
def test_b3_a_copy_that_is_not_what_was_read_never_gets_the_name(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    copy_pages = _backup.copy_pages

    def harmful(source: apsw.Connection, destination: Path, progress: _backup.Progress | None) -> None:
        copy_pages(source, destination, progress)
        if harm == "a damaged page":
            _damage(destination, _root_of_invocations(destination))
            return
        connection = sqlite3.connect(destination)
        change = "DELETE FROM invocations WHERE seq = 2" if harm == "a lost row" else "UPDATE meta SET clock_ms = 0"
        connection.execute(change)
        connection.commit()
        connection.close()

    monkeypatch.setattr(_backup, "copy_pages", harmful)
    with pytest.raises(StorageCorruptError):
        store.backup(tmp_path / "kept")
    assert _names(tmp_path) == ["data"]


def test_b3_the_file_and_its_name_are_made_durable_in_this_order(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def told(fd: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("only Linux tells the name of a file descriptor")
    monkeypatch.setattr(os, "fsync", told)
    store.backup(tmp_path / "kept")
    assert synced == ["kept.partial", tmp_path.name]


def test_b3_a_disk_without_room_is_told_before_anything_is_written(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")  # what shutil gives is one
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 10**9 - 1_000_000, 1_000_000))
    with pytest.raises(StorageError, match=r"has 1,000,000 bytes free, and the backup needs [\d,]+; free some space"):
        store.backup(tmp_path / "kept")
    assert _names(tmp_path) == ["data"]


def test_b4_a_backup_in_the_place_of_a_database_is_refused_by_name(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shutil.copy(backup, tmp_path / "other" / DATABASE)
    with pytest.raises(StorageFormatError, match=r"it is a backup, .* with `streamstate restore`"):
        SqliteStore.open(tmp_path / "other")
    assert (tmp_path / "other" / DATABASE).read_bytes() == backup.read_bytes()


def test_b4_what_is_no_backup_is_not_restored(store: SqliteStore, tmp_path: Path) -> None:
    (tmp_path / "diary").write_bytes(b"dear diary, " * 1_000)
    with pytest.raises(StorageFormatError, match="not written by streamstate"):
        restore_backup(tmp_path / "diary", tmp_path / "again")
    with pytest.raises(StorageFormatError, match="it is the database of a data directory"):
        restore_backup(store.directory / DATABASE, tmp_path / "again")
    with pytest.raises(StorageError, match="there is no such file"):
        restore_backup(tmp_path / "nothing", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_directory_that_is_none_is_not_backed_up(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no such file; give the path of a data directory"):
        take_backup(tmp_path, tmp_path / "kept")
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(StorageFormatError, match="not a database of streamstate"):
        take_backup(tmp_path, tmp_path / "kept")
    assert _names(tmp_path) == [DATABASE]


@pytest.mark.parametrize("page", [2, 6, 41, None])
def test_a_damaged_backup_is_refused(backup: Path, tmp_path: Path, page: int | None) -> None:
    _damage(backup, page or _root_of_invocations(backup))
    with pytest.raises(StorageCorruptError):
        restore_backup(backup, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_v1_a_restored_directory_holds_what_the_backup_holds(backup: Path, store: SqliteStore, tmp_path: Path) -> None:
    done = restore_backup(backup, tmp_path / "deep" / "again")
    assert _names(tmp_path / "deep" / "again") == ["lock", DATABASE]
    copy = SqliteStore.open(tmp_path / "deep" / "again")
    assert [each.id for each in copy.invocations.runnable(0, 10)] == ["inv_1", "inv_2"]
    assert copy.positions() == store.positions()
    assert (copy.header.directory_id, copy.header.seq) == (store.header.directory_id, 2)
    assert copy.header.epoch == done.epoch + 1
    assert copy.header.restored_epoch == done.epoch
    copy.commit(one_value(2))
    copy.close()


@pytest.mark.parametrize("name", [DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"])
def test_v1_a_directory_that_holds_anything_is_left_alone(backup: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / name).write_bytes(b"precious")
    with pytest.raises(StorageError, match=f"{name} is there; a restore overwrites nothing"):
        restore_backup(backup, tmp_path / "again")
    assert (tmp_path / "again" / name).read_bytes() == b"precious"


def test_v1_a_directory_in_use_is_refused(backup: Path, store: SqliteStore) -> None:
    with pytest.raises(StorageInUseError):
        restore_backup(backup, store.directory)


def test_v1_a_restore_that_was_killed_is_not_taken_for_an_empty_directory(backup: Path, tmp_path: Path) -> None:
    _killed("restore", backup, tmp_path / "again")
    with pytest.raises(StorageError, match="was cut short; run `streamstate restore` again"):
        SqliteStore.open(tmp_path / "again")
    restore_backup(backup, tmp_path / "again")
    SqliteStore.open(tmp_path / "again").close()


def test_v1_a_directory_whose_database_vanished_is_restored_in_place(backup: Path, store: SqliteStore) -> None:
    store.close()
    (store.directory / DATABASE).unlink()
    restore_backup(backup, store.directory)
    again = SqliteStore.open(store.directory)
    assert again.state("Order", "a") == {"n": b"1"}
    again.close()


def test_v1_a_restored_database_that_vanishes_is_missed(backup: Path, tmp_path: Path) -> None:
    restore_backup(backup, tmp_path / "again")
    (tmp_path / "again" / DATABASE).unlink()
    with pytest.raises(StorageCorruptError, match="the database is empty, but"):
        SqliteStore.open(tmp_path / "again")


def test_v1_what_was_known_of_a_database_that_is_gone_does_not_bind_the_restored_one(
    backup: Path, store: SqliteStore
) -> None:
    for number in range(2, 50):
        store.commit(one_value(number))
    store.close()
    (store.directory / DATABASE).unlink()
    restore_backup(backup, store.directory)
    SqliteStore.open(store.directory).close()


def test_v2_every_restore_has_an_epoch_of_its_own_above_all_before(backup: Path, tmp_path: Path) -> None:
    first, second = (restore_backup(backup, tmp_path / name).epoch for name in ("one", "two"))
    assert read_backup(backup).epoch < first < second
    kept = take_backup(tmp_path / "two", tmp_path / "kept-again")
    assert kept.epoch == second
    assert restore_backup(kept.path, tmp_path / "three").epoch > second


async def test_v2_ids_that_a_restored_directory_gives_were_never_given(tmp_path: Path) -> None:
    shop = Service("Shop")

    @shop.handler
    async def order(ctx: Context) -> None:
        await ctx.awakeable(str)

    async def sent(directory: Path, count: int) -> set[str]:
        async with Environment(App([shop], name="shop"), store=SqliteStore.open(directory)) as env:
            return {(await env.send(order)).id for _ in range(count)}

    await sent(tmp_path / "data", 3)
    take_backup(tmp_path / "data", tmp_path / "kept")
    restore_backup(tmp_path / "kept", tmp_path / "again")
    later = await sent(tmp_path / "data", 3) | await sent(tmp_path / "data", 3)
    assert not later & await sent(tmp_path / "again", 3)


@pytest.mark.parametrize(("choice", "left"), [("keep", [1, 2]), ("drop", [])])
def test_v3_messages_are_kept_or_dropped_as_chosen_and_the_choice_is_kept(
    store: SqliteStore, tmp_path: Path, choice: OutboxChoice, left: list[int]
) -> None:
    store.commit(Batch(outbox=[message(1), message(2)]))
    store.backup(tmp_path / "kept")
    store.commit(Batch(outbox_done={"main": 2}))
    with pytest.raises(UsageError, match=r"holds 2 messages .* --outbox keep .* --outbox drop"):
        restore_backup(tmp_path / "kept", tmp_path / "again")
    assert not (tmp_path / "again").exists()
    done = restore_backup(tmp_path / "kept", tmp_path / "again", choice)
    assert (done.outbox, done.messages) == (choice, 2)
    copy = SqliteStore.open(tmp_path / "again")
    assert [each.position for each in copy.outbox("main", 0, 10)] == left
    assert copy.header.outbox_position == 2
    copy.close()
    with sqlite3.connect(tmp_path / "again" / DATABASE) as connection:
        query = "SELECT event, epoch, detail ->> 'outbox', detail ->> 'messages' FROM history"
        assert connection.execute(query).fetchall() == [("restored", done.epoch, choice, 2)]
    connection.close()


def test_v4_source_positions_go_back_with_the_state(backup: Path, store: SqliteStore, tmp_path: Path) -> None:
    before = store.positions()
    store.commit(one_value(500))
    restore_backup(backup, tmp_path / "again")
    copy = SqliteStore.open(tmp_path / "again")
    assert copy.positions() == before != store.positions()
    assert copy.state("Order", "a") == {"n": b"1"}
    copy.close()


def test_i11_an_older_copy_put_in_the_place_of_a_database_is_refused_by_name(
    store: SqliteStore, tmp_path: Path
) -> None:
    store.close()
    shutil.copy(store.directory / DATABASE, tmp_path / "older")
    SqliteStore.open(store.directory).close()
    shutil.copy(tmp_path / "older", store.directory / DATABASE)
    with pytest.raises(StorageCorruptError, match="owner epoch is 1, but the directory was opened under 2 before"):
        SqliteStore.open(store.directory)
    take_backup(store.directory, tmp_path / "kept")
    restore_backup(tmp_path / "kept", tmp_path / "again")
    SqliteStore.open(tmp_path / "again").close()


def test_i11_a_directory_belongs_to_the_app_that_opened_it_first(tmp_path: Path) -> None:
    SqliteStore.open(tmp_path).close()
    SqliteStore.open(tmp_path, "shop").close()
    with pytest.raises(StorageError, match="belongs to App 'shop', not to 'store': source positions"):
        SqliteStore.open(tmp_path, "store")
    SqliteStore.open(tmp_path, "shop").close()
