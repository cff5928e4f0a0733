"""The examination of data directories: sound ones have no problem, and every damage is named."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import time
from collections import namedtuple
from pathlib import Path

import apsw
import pytest

from streamstate.errors import StorageError, StorageInUseError
from streamstate.storage import (
    Batch,
    Examination,
    Finding,
    Known,
    Level,
    SqliteStore,
    Waiting,
    _doctor,
    examine,
    restore_backup,
)
from streamstate.storage._checksums import checksum_vfs
from streamstate.storage._doctor_rules import RULES
from streamstate.storage._lock import DirectoryLock
from streamstate.storage._schema import FORMAT_VERSION
from streamstate.testing import Environment, VirtualClock
from tests.storage import golden_app
from tests.storage.golden import DATABASE, fill, golden, load
from tests.storage.rows import accepted, one_value, row

GONE = "inv_gone"
ASKED = "(SELECT id FROM invocations WHERE handler = 'ask' AND key = 'asked')"
CALLED = "(SELECT id FROM invocations WHERE handler = 'ask' AND key = 'relayed')"
REFUSED = "(SELECT id FROM invocations WHERE handler = 'refuse')"
STUCK = "handler = 'stuck'"
SLEEPS = "handler = 'place' AND status = 'suspended'"
QUEUED = "handler = 'place' AND status = 'pending'"
CODES = re.compile(r"[a-z-]+")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one of everything, that nobody owns."""
    directory = tmp_path_factory.mktemp("pristine")
    load(golden(FORMAT_VERSION), directory)
    return directory


@pytest.fixture
def directory(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "data")
    return tmp_path / "data"


def _change(directory: Path, sql: str) -> None:
    """Like a tool that knows of the checksums and nothing else."""
    connection = apsw.Connection(str(directory / DATABASE), vfs=checksum_vfs())
    try:
        connection.execute(sql)
    finally:
        connection.close()


def _codes(found: Examination, level: Level = Level.PROBLEM) -> set[str]:
    return {finding.code for finding in found.of_level(level)}


def _only(found: Examination, code: str) -> Finding:
    (finding,) = [each for each in found.findings if each.code == code]
    assert CODES.fullmatch(finding.code)
    assert finding.text
    assert finding.remedy
    return finding


def _bytes(directory: Path) -> dict[str, bytes]:
    """What is in its files, but for SQLite's index of the log; read by another process, which cannot drop locks."""
    names = [path for path in directory.iterdir() if not path.name.endswith("-shm") and path.stat().st_size]
    return {path.name: subprocess.run(["cat", path], check=True, capture_output=True).stdout for path in names}


# Sound directories.


@pytest.mark.parametrize("full", [False, True])
def test_a_directory_with_one_of_everything_has_no_problem(directory: Path, full: bool) -> None:
    found = examine(directory, full=full)
    assert found.findings == []
    assert (found.is_running, found.owner, found.format, found.application) == (False, None, FORMAT_VERSION, "golden")
    assert found.rows["outbox"] == 3
    assert found.statuses == {
        **{"backing-off": 2, "completed": 3, "paused": 1, "pending": 2, "running": 1, "scheduled": 1, "suspended": 7}
    }
    assert [(each.target, each.status, each.attempt) for each in found.waiting] == [
        ("Order/failing.flaky", "backing-off", 1),
        ("Order/stuck.stuck", "paused", 1),
        ("Shop.pay", "backing-off", 0),
    ]
    assert isinstance(found.waiting[0], Waiting)
    assert found.waiting[0].reason == "ValueError: not yet"


async def test_no_commit_of_a_running_program_looks_like_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Examination] = []
    commit = SqliteStore.commit

    def examined(store: SqliteStore, batch: Batch) -> None:
        commit(store, batch)
        seen.append(examine(store.directory))

    monkeypatch.setattr(SqliteStore, "commit", examined)
    await fill(golden_app, tmp_path)
    clock = VirtualClock()
    async with Environment(golden_app.app, clock=clock, store=SqliteStore.open(tmp_path, "golden")) as env:
        golden_app.repaired.update(("flaky", "pay", "work"))
        try:
            await clock.advance(25 * golden_app.HOUR)
            await env.idle()
        finally:
            golden_app.repaired.clear()
    assert len(seen) > 20
    assert [finding for found in seen for finding in found.of_level(Level.PROBLEM)] == []
    assert all(found.is_running and found.owner for found in seen)


async def test_an_attempt_that_was_put_off_anew_after_a_cancel_keeps_its_timer(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with Environment(golden_app.app, clock=clock, store=SqliteStore.open(tmp_path, "golden")) as env:
        sent = await env.send(golden_app.flaky, key="k")
        await clock.advance(0.5 * golden_app.MINUTE)
        assert sent.cancel()
        await clock.advance(0.75 * golden_app.MINUTE)
        assert _codes(examine(tmp_path)) == set()


def test_examining_changes_nothing_whether_a_process_owns_the_directory_or_not(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "data")
    store.commit(accepted(row("inv_1", expires_ms=None)))
    before = _bytes(store.directory)
    assert sorted(before) == ["guard", "lock", DATABASE, f"{DATABASE}-wal"]
    found = examine(store.directory, full=True)
    assert (found.is_running, found.epoch, found.rows["invocations"]) == (True, 1, 1)
    assert found.owner is not None
    assert "(owner epoch 1)" in found.owner
    assert _bytes(store.directory) == before
    store.commit(one_value(1))
    store.close()
    before = _bytes(store.directory)
    assert not examine(store.directory, full=True).is_running
    assert _bytes(store.directory) == before
    SqliteStore.open(store.directory).close()


def test_an_owner_waits_for_somebody_who_only_looks_at_the_lock_and_not_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DirectoryLock.acquire(tmp_path).release()
    fd = os.open(tmp_path / "lock", os.O_RDONLY)
    waits: list[float] = []

    def look_away(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            fcntl.flock(fd, fcntl.LOCK_UN)

    fcntl.flock(fd, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", look_away)
    DirectoryLock.acquire(tmp_path).release()
    assert len(waits) == 3
    fcntl.flock(fd, fcntl.LOCK_SH)
    with pytest.raises(StorageInUseError):
        DirectoryLock.acquire(tmp_path)
    os.close(fd)
    assert sum(waits) < 1


# Rows that contradict each other. Some damages break several rules; `exactly` says whether this one is alone.

DAMAGES = [
    ("journal-without-invocation", f"INSERT INTO journal VALUES ('{GONE}', 0, 'run', 'x', X'00')", False),
    ("journal-gap", "DELETE FROM journal WHERE position = 0 AND kind = 'get'", False),
    ("journal-missing", f"DELETE FROM journal WHERE invocation = {ASKED}", True),
    ("undelivered", f"UPDATE invocations SET undelivered = 99 WHERE {STUCK}", False),
    ("undelivered-command", f"UPDATE invocations SET undelivered = 2 WHERE {STUCK}", True),
    ("key-held-twice", f"UPDATE invocations SET status = 'ready' WHERE {QUEUED}", True),
    ("start-without-timer", "DELETE FROM timers WHERE kind = 'start'", True),
    ("start-without-timer", "UPDATE timers SET fire_ms = fire_ms + 1 WHERE kind = 'start'", True),
    ("retry-without-timer", "DELETE FROM timers WHERE kind = 'retry'", True),
    ("retry-without-timer", "DELETE FROM timers WHERE kind = 'step'", True),
    ("retry-without-timer", "UPDATE invocations SET due_ms = due_ms + 1 WHERE handler = 'flaky'", True),
    ("timer-without-invocation", f"INSERT INTO timers VALUES ('{GONE}', 'sleep', 0, 5, 0)", True),
    ("timer-of-ended", f"INSERT INTO timers VALUES ({REFUSED}, 'sleep', 0, 5, 0)", True),
    ("timer-of-no-kind", f"INSERT INTO timers VALUES ({ASKED}, 'egg', 0, 5, 0)", True),
    ("waiter-without-invocation", f"INSERT INTO waiters VALUES (9, {ASKED}, '{GONE}', 0)", True),
    ("waits-for-nothing", f"UPDATE waiters SET awaited = '{GONE}' WHERE awaited = {ASKED}", True),
    ("waits-for-nothing", f"UPDATE waiters SET awaited = {REFUSED} WHERE awaited = {ASKED}", True),
    ("waits-for-kept-promise", "INSERT INTO promises VALUES ('Contract', 'open', 'signed', X'31', NULL)", True),
    ("ended-without-end", "UPDATE invocations SET expires_ms = NULL WHERE handler = 'refuse'", True),
    ("seq-twice", f"UPDATE invocations SET seq = 1 WHERE {STUCK}", True),
    ("seq-ahead", f"UPDATE invocations SET seq = 1000 WHERE {STUCK}", True),
    ("outbox-ahead", "UPDATE meta SET outbox_position = 2", True),
    ("position-below-zero", "UPDATE positions SET next_offset = -1 WHERE partition = 0", True),
    ("position-behind", "UPDATE positions SET next_offset = 2 WHERE partition = 1", True),
    ("position-behind", "DELETE FROM positions", True),
    ("result-lost", f"DELETE FROM waiters WHERE awaited = {ASKED}", True),
    ("result-lost", "DELETE FROM waiters WHERE awaited LIKE 'promise:%'", True),
    (
        "result-lost",
        f"DELETE FROM journal WHERE invocation = {CALLED}; DELETE FROM invocations WHERE id = {CALLED}",
        True,
    ),
    ("never-woken", "DELETE FROM timers WHERE kind = 'sleep'", True),
    ("undecodable", f"UPDATE invocations SET status = 'dancing' WHERE {SLEEPS}", True),
    ("undecodable", "UPDATE invocations SET origin = 'nowhere' WHERE handler = 'refuse'", True),
    ("undecodable", "UPDATE invocations SET failure = 'none' WHERE handler = 'refuse'", True),
    ("undecodable", f"UPDATE journal SET entry = X'00' WHERE invocation = {ASKED}", True),
    ("undecodable", "UPDATE outbox SET headers = X'00' WHERE position = 2", True),
    ("undecodable", "UPDATE promises SET failure = '{}'", True),
    ("undecodable", "INSERT INTO history VALUES (1, 0, 'restored', 7, '{}')", True),
    ("meta", "DELETE FROM meta", False),
    ("schema-changed", "ALTER TABLE promises ADD COLUMN note TEXT", True),
    ("schema-changed", "DROP INDEX invocations_lane", True),
    ("tables-missing", "DROP TABLE waiters", True),
]


@pytest.mark.parametrize(
    ("code", "damage", "alone"), DAMAGES, ids=[f"{code}-{n}" for n, (code, _, _) in enumerate(DAMAGES)]
)
def test_a_damage_is_named(directory: Path, code: str, damage: str, alone: bool) -> None:
    _change(directory, damage)
    found = examine(directory)
    finding = _only(found, code)
    assert finding.level is Level.PROBLEM
    assert len(finding.examples) == min(finding.count, 3) or not finding.examples
    if alone:
        assert _codes(found) == {code}


def test_every_rule_has_a_damage_that_breaks_it() -> None:
    rules = {rule.code for rule in RULES} | set(_doctor._FLAWS)
    assert rules - {code for code, _, _ in DAMAGES} == set()


def test_the_invocations_that_are_concerned_are_named_and_counted(directory: Path) -> None:
    _change(directory, "UPDATE invocations SET seq = seq + 1000 WHERE status = 'suspended'")
    finding = _only(examine(directory), "seq-ahead")
    assert finding.count == 7
    assert len(finding.examples) == 3
    assert all(re.fullmatch(r"inv_\w+ of \w+(/[\w-]+)?\.\w+", example) for example in finding.examples)


# Damaged files.


@pytest.mark.parametrize("page", [1, 5, 12])
def test_an_overwritten_page_is_named(directory: Path, page: int) -> None:
    with (directory / DATABASE).open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xa5" * 4096)
    assert _codes(examine(directory)) & {"damaged", "unreadable"}


def test_a_byte_that_changed_inside_of_a_value_is_named(directory: Path) -> None:
    data = (directory / DATABASE).read_bytes()
    place = data.index(b"the card reader is broken")
    (directory / DATABASE).write_bytes(data[:place] + b"T" + data[place + 1 :])
    found = examine(directory)
    assert "unreadable" in _codes(found)
    assert "checksum" in " ".join(finding.text for finding in found.findings)


def test_what_can_be_read_is_examined_beside_what_cannot(directory: Path) -> None:
    connection = apsw.Connection(str(directory / DATABASE), vfs=checksum_vfs())
    connection.execute("UPDATE meta SET outbox_position = 2")
    ((page,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'promises'").fetchall()
    connection.close()
    with (directory / DATABASE).open("r+b") as file:
        file.seek((int(str(page)) - 1) * 4096)
        file.write(b"\xa5" * 4096)
    found = examine(directory)
    assert {"unreadable", "outbox-ahead"} <= _codes(found)
    assert "waits-for-kept-promise" in " ".join(finding.text for finding in found.findings)


def test_files_that_are_not_of_one_moment_are_named(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "data")
    shutil.copytree(store.directory, tmp_path / "killed")
    store.close()
    assert _codes(examine(tmp_path / "data")) == _codes(examine(tmp_path / "killed")) == set()
    (tmp_path / "killed" / f"{DATABASE}-wal").unlink()
    assert "was not closed, and its log" in _only(examine(tmp_path / "killed"), "not-of-one-moment").text
    with (tmp_path / "data" / DATABASE).open("ab") as file:
        file.write(bytes(4096))
    assert "it has changed since it was closed" in _only(examine(tmp_path / "data"), "not-of-one-moment").text


def test_an_index_that_does_not_fit_its_table_is_named_by_the_full_check(directory: Path) -> None:
    _change(
        directory,
        """
PRAGMA writable_schema = ON;
CREATE TEMP TABLE kept AS SELECT * FROM main.sqlite_schema WHERE name = 'timers_due';
DELETE FROM main.sqlite_schema WHERE name = 'timers_due';
PRAGMA writable_schema = RESET;
UPDATE timers SET fire_ms = fire_ms + 1 WHERE kind = 'step';
PRAGMA writable_schema = ON;
INSERT INTO main.sqlite_schema SELECT * FROM kept;
""",
    )
    assert _codes(examine(directory)) == set()
    finding = _only(examine(directory, full=True), "damaged")
    assert "timers_due" in finding.examples[0]


def test_what_is_no_data_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is no data directory: it has neither"):
        examine(tmp_path)
    with pytest.raises(StorageError, match="is no data directory"):
        examine(tmp_path / "nowhere")


@pytest.mark.parametrize("what", ["diary", "backup", "newer format"])
def test_a_database_that_is_something_else_is_named(directory: Path, tmp_path: Path, what: str) -> None:
    if what == "diary":
        (directory / DATABASE).write_bytes(b"dear diary, " * 1_000)
    elif what == "backup":
        SqliteStore.open(tmp_path / "other").backup(tmp_path / "kept")
        shutil.copy(tmp_path / "kept", directory / DATABASE)
    else:
        _change(directory, f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    text = _only(examine(directory), "unreadable").text
    expected = {
        "diary": "not written by streamstate",
        "backup": "it is a backup",
        "newer format": "found format version",
    }
    assert expected[what] in text


def test_a_database_that_vanished_or_is_an_older_copy_is_named(directory: Path) -> None:
    SqliteStore.open(directory).close()
    shutil.copy(directory / DATABASE, directory.parent / "older")
    SqliteStore.open(directory).close()
    shutil.copy(directory.parent / "older", directory / DATABASE)
    assert "of owner epoch 3, but the directory was opened under 4" in _only(examine(directory), "older-copy").text
    (directory / DATABASE).unlink()
    assert "there was one under owner epoch 4" in _only(examine(directory), "database-gone").text


# What one may want to know.


def test_what_was_left_over_is_told(directory: Path) -> None:
    store = SqliteStore.open(directory)
    store.commit(one_value(1))
    shutil.copytree(directory, directory.parent / "killed")
    store.close()
    (directory.parent / "killed" / f"{DATABASE}-shm").unlink()
    (directory.parent / "killed" / f"before-format-{FORMAT_VERSION}-epoch-1.backup").write_bytes(b"x" * 1_234)
    found = examine(directory.parent / "killed")
    assert _codes(found) == set()
    assert "the last owner was killed" in _only(found, "not-closed").text
    assert "1,234 bytes" in _only(found, "kept-from-upgrade").text
    (directory.parent / "killed" / f"{DATABASE}.partial").touch()
    assert "cut short" in _only(examine(directory.parent / "killed"), "restore-unfinished").text


def test_a_directory_that_was_never_started_is_told(tmp_path: Path) -> None:
    (tmp_path / DATABASE).touch()
    found = examine(tmp_path)
    assert [(each.level, each.code) for each in found.findings] == [(Level.NOTICE, "empty")]


def test_an_older_format_is_told(tmp_path: Path) -> None:
    load(golden(1), tmp_path)
    found = examine(tmp_path)
    assert _codes(found) == set()
    assert "of format 1, this version of streamstate writes" in _only(found, "older-format").text


def test_a_restored_directory_shows_it(directory: Path, tmp_path: Path) -> None:
    store = SqliteStore.open(directory)
    store.backup(tmp_path / "kept")
    store.close()
    done = restore_backup(tmp_path / "kept", tmp_path / "again", "drop")
    found = examine(tmp_path / "again")
    assert found.findings == []
    assert [(each.epoch, each.event.outbox) for each in found.history] == [(done.epoch, "drop")]  # type: ignore[union-attr]  # what was noted is a restore


@pytest.mark.parametrize(("free", "code"), [(1_000, "disk-full"), (300 * 2**20, "disk-short")])
def test_a_short_disk_is_told(directory: Path, monkeypatch: pytest.MonkeyPatch, free: int, code: str) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**12, 10**12 - free, free))
    if code == "disk-short":
        monkeypatch.setattr(_doctor, "_FREE_BYTES_MIN", 1_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**12, 10**12 - 2_000, 2_000))
    assert "bytes free" in _only(examine(directory), code).text


@pytest.mark.parametrize(
    ("code", "change", "text"),
    [
        ("expired", "UPDATE meta SET clock_ms = clock_ms + 864000000", "3 invocations are past their retention"),
        ("clock-ahead", "UPDATE meta SET clock_ms = 8000000000000", "s ahead of this machine's"),
        ("outbox-gap", "DELETE FROM outbox WHERE position = 2", "from 1 to 3, 1 are not there"),
    ],
)
def test_a_notice_is_no_problem(directory: Path, code: str, change: str, text: str) -> None:
    _change(directory, change)
    found = examine(directory)
    assert text in _only(found, code).text
    assert _codes(found) == set()


def test_a_long_inbox_is_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_doctor, "_INBOX_LONG", 2)
    assert _only(examine(directory), "long-inbox").text == "2 inputs wait for the key Order/b"


# Compared with an App.


def _known(**changes: object) -> Known:
    program = golden_app.app.program
    handlers = {(spec.service, spec.name) for each in program.services.values() for spec in each.handlers.values()}
    own = {"app": "golden", "subscriptions": frozenset(["golden.Order.place"]), "handlers": frozenset(handlers)}
    return Known(**{**own, **changes})  # type: ignore[arg-type]  # the values above


def test_the_app_that_it_belongs_to_finds_nothing(directory: Path) -> None:
    assert examine(directory, known=_known()).findings == []


def test_another_app_is_named(directory: Path) -> None:
    found = examine(directory, known=_known(app="other", subscriptions=frozenset(["other.Order.place"])))
    assert "belongs to App 'golden', not to 'other'" in _only(found, "other-application").text
    assert "subscription golden.Order.place" in _only(found, "position-without-subscription").text
    assert _codes(found) == {"other-application"}


def test_a_handler_that_is_gone_is_named_while_invocations_of_it_have_not_ended(directory: Path) -> None:
    known = _known()
    without = {*known.handlers} - {("Order", "ask"), ("Order", "refuse")}
    found = examine(directory, known=_known(handlers=frozenset(without)))
    assert "3 invocations of Order.ask have not ended" in _only(found, "handler-gone").text
    assert _codes(found) == {"handler-gone"}
