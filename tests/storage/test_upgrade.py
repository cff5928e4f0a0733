"""From every format that ever was to the present one (U1 to U4), on directories that were written then."""

from __future__ import annotations

import hashlib
import logging
import re
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from streamstate.errors import StorageCorruptError, StorageError, StorageFormatError
from streamstate.journal import awakeable_id
from streamstate.storage import SqliteStore, Status, _upgrade, read_backup, restore_backup
from streamstate.storage._checksums import checksum_vfs
from streamstate.storage._glance import glance
from streamstate.storage._guard import GUARD_FILE, Guard, sum_of_file, write_guard
from streamstate.storage._schema import FORMAT_VERSION
from streamstate.storage._upgrade import STEPS, present_schema, schema_of
from streamstate.testing import Environment, VirtualClock
from tests.storage import golden_app
from tests.storage.golden import DATABASE, FORMATS, dump, golden, load, version_of

OLD_FORMATS = range(1, FORMAT_VERSION)
EVERY_FORMAT = range(1, FORMAT_VERSION + 1)
HOUR = timedelta(hours=1)

# The schema of a format never changes once it is here: what is in users' directories cannot be changed from here. A new
# schema is a new FORMAT_VERSION, with a step in _upgrade.STEPS, a line here and a file made by tests.storage.golden.
FINGERPRINTS = {
    1: "648b0a9d39c2e7da",
    2: "248a3c17d0c012db",
}


def _fingerprint(connection: apsw.Connection) -> str:
    parts = "\n".join(f"{part.type} {part.name} {part.sql}" for part in schema_of(connection))
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def repaired() -> Iterator[set[str]]:
    yield golden_app.repaired
    golden_app.repaired.clear()


def _rows(database: Path, table: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("version", EVERY_FORMAT)
def test_the_schema_of_a_format_never_changes_without_a_new_version(directory: Path, version: int) -> None:
    load(golden(version), directory)
    with glance(directory / DATABASE) as connection:
        assert connection.pragma("user_version") == version
        assert _fingerprint(connection) == FINGERPRINTS[version]


def test_the_present_schema_is_that_of_the_present_version(directory: Path) -> None:
    SqliteStore.open(directory).close()
    with glance(directory / DATABASE) as connection:
        assert schema_of(connection) == present_schema()
        assert _fingerprint(connection) == FINGERPRINTS[FORMAT_VERSION], (
            "the schema has changed: raise FORMAT_VERSION, add a step to _upgrade.STEPS and a golden directory"
        )


def test_every_format_has_a_step_and_a_golden_directory() -> None:
    assert list(STEPS) == list(OLD_FORMATS)
    assert list(FINGERPRINTS) == list(EVERY_FORMAT)
    assert sorted(path.name for path in FORMATS.iterdir()) == sorted(f"format_{each}.sql" for each in EVERY_FORMAT)


@pytest.mark.parametrize("version", EVERY_FORMAT)
def test_a_golden_directory_names_no_machine(version: int) -> None:
    text = golden(version)
    blobs = "".join(bytes.fromhex(blob).decode("latin-1") for blob in re.findall(r"X'([0-9A-F]*)'", text))
    assert re.findall(r"/(?:home|root|work|tmp|Users|usr|srv)/[\w./-]*", text + blobs) == []


@pytest.mark.parametrize("version", OLD_FORMATS)
def test_u3_an_upgraded_directory_holds_what_it_held_in_the_form_of_a_new_one(directory: Path, version: int) -> None:
    load(golden(version), directory)
    tables = [name for name in _tables(directory) if name != "meta"]
    before = {name: _rows(directory / DATABASE, name) for name in tables}
    header = _rows(directory / DATABASE, "meta")[0]
    store = SqliteStore.open(directory)
    assert store.header.directory_id == header[1]
    assert (store.header.epoch, store.header.clock_ms, store.header.seq) == (header[2] + 1, *header[3:5])
    assert store.header.outbox_position == header[5]
    store.close()
    assert {name: _rows(directory / DATABASE, name) for name in tables} == before
    with glance(directory / DATABASE) as connection:
        assert schema_of(connection) == present_schema()
        assert connection.pragma("user_version") == FORMAT_VERSION
        assert int(connection.pragma("checksum_verification")) == 1
        assert connection.pragma("integrity_check") == "ok"
    assert [row[2] for row in _rows(directory / DATABASE, "history")] == ["upgraded"]
    SqliteStore.open(directory).close()


@pytest.mark.parametrize("version", EVERY_FORMAT)
async def test_what_a_directory_of_any_format_had_begun_ends_as_if_nothing_had_been_between(
    directory: Path, version: int, repaired: set[str]
) -> None:
    load(golden(version), directory)
    ids = {(row[2], row[3], row[4]): row[0] for row in _rows(directory / DATABASE, "invocations")}
    store, clock = SqliteStore.open(directory, "golden"), VirtualClock()
    assert _described(store) == EXPECTED
    repaired.update(("flaky", "charge", "pay", "work"))
    async with Environment(golden_app.app, clock=clock, store=store) as env:
        await env.idle()
        told = env.topic("told").records()
        assert [record.value for record in told] == [b"0", b"1", b"2"]
        assert [dict(record.headers)["number"] for record in told] == [b"0", b"1", b"2"]
        results = {
            name: env.invocation(ids[target], str)
            for name, target in {
                "asked": ("Order", "ask", "asked"),
                "attached": ("Shop", "attach", ""),
                "relayed": ("Shop", "relay", ""),
                "open": ("Contract", "conclude", "open"),
                "signed": ("Contract", "conclude", "signed"),
                "flaky": ("Order", "flaky", "failing"),
                "pay": ("Shop", "pay", ""),
            }.items()
        }
        for key, answer in (("asked", "yes"), ("relayed", "one"), ("relayed-2", "two")):
            assert env.resolve_awakeable(awakeable_id(ids["Order", "ask", key], 0), answer)
        await env.call(golden_app.sign, "Grace", key="open")
        stuck = env.invocation(ids["Order", "stuck", "stuck"], str)
        env.running.engine.operations.resume(stuck.id)
        results["stuck"] = env.invocation(stuck.id, str)
        await clock.advance(25 * HOUR)
        assert {name: await invocation.result() for name, invocation in results.items()} == {
            "asked": "yes",
            "attached": "yes",
            "relayed": "one+two",
            "open": "Grace",
            "signed": "Ada",
            "flaky": "at last",
            "pay": "paid",
            "stuck": "charged",
        }
        assert await env.state(golden_app.orders, "b").all() == {"count": b"3", "waited": b"2"}
        assert await env.state(golden_app.orders, "relayed").all() == {"reminded": b"true"}
        assert env.running.engine.core.stored_count == 0
    store.close()


def _described(store: SqliteStore) -> dict[str, object]:
    """What the readers of the store make of the directory."""
    runnable = {f"{row.handler}/{row.key}": row.status for row in store.invocations.runnable(0, 100)}
    return {
        "state": store.state("Order", "a"),
        "positions": sorted((partition, offset) for (_s, _t, _i, partition), offset in store.positions().items()),
        "runnable": runnable,
        "lane": [row.status for row in store.invocations.lane("Order", "b", 0, 10)],
        "live": store.header.live,
        "timers": sorted(timer.kind for timer in store.timers(None, 100)),
        "promise": store.promise(("Contract", "signed", "signed")) is not None,
        "outbox": [(message.position, message.message_id[-2:]) for message in store.outbox("memory", 0, 10)],
    }


EXPECTED: dict[str, object] = {
    "state": {"count": b"1", "odd \x00 name": b'"\xe2\x98\x83"'},
    "positions": [(0, 0), (1, 3), (2, 0), (3, 2)],
    "runnable": {"place/b": Status.PENDING, "work/": Status.RUNNING},
    "lane": [Status.SUSPENDED, Status.PENDING, Status.PENDING],
    "live": 14,
    "timers": ["retry", "sleep", "start", "step"],
    "promise": True,
    "outbox": [(1, "/0"), (2, "/1"), (3, "/2")],
}


@pytest.mark.parametrize("version", OLD_FORMATS)
def test_u4_a_backup_of_the_old_format_is_kept_and_goes_forward_like_the_directory(
    directory: Path, tmp_path: Path, version: int, caplog: pytest.LogCaptureFixture
) -> None:
    load(golden(version), directory)
    before = dump_of(directory / DATABASE)
    with caplog.at_level(logging.WARNING):
        SqliteStore.open(directory).close()
    epoch = int(re.search(r"INSERT INTO meta VALUES \(1, '\w+', (\d+)", before)[1])  # type: ignore[index]  # it is there
    kept = directory / f"before-format-{FORMAT_VERSION}-epoch-{epoch}.backup"
    assert f"was upgraded from format {version} to {FORMAT_VERSION}; {kept.name} is a backup" in caplog.text
    assert read_backup(kept).format == version
    assert dump_of(kept).splitlines()[1:] == before.splitlines()[1:]
    restore_backup(kept, tmp_path / "again", "keep")
    store = SqliteStore.open(tmp_path / "again")
    assert _described(store) == EXPECTED
    assert store.header.restored_epoch > epoch
    store.close()


def dump_of(database: Path) -> str:
    return "\n".join(dump(database))


def test_u2_an_upgrade_that_fails_leaves_the_old_format_and_can_be_tried_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(golden(1), directory)
    before = dump_of(directory / DATABASE)

    def broken(connection: apsw.Connection) -> None:
        connection.execute("DELETE FROM invocations; CREATE TABLE half (x)")
        raise apsw.FullError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setitem(_upgrade.STEPS, 1, broken)
        with pytest.raises(StorageError, match="the disk is full; free some space"):
            SqliteStore.open(directory)
        assert dump_of(directory / DATABASE) == before
    SqliteStore.open(directory).close()
    assert version_of(directory) == FORMAT_VERSION


def test_u3_a_directory_whose_schema_was_changed_by_hand_is_not_upgraded(directory: Path) -> None:
    load(golden(1), directory)
    with sqlite3.connect(directory / DATABASE) as connection:
        connection.execute("ALTER TABLE promises ADD COLUMN note TEXT")
    connection.close()
    with pytest.raises(StorageFormatError, match="was undone: promises would not be as expected"):
        SqliteStore.open(directory)
    assert version_of(directory) == 1


def test_i11_what_was_damaged_since_it_was_closed_is_not_upgraded(directory: Path) -> None:
    load(golden(1), directory)
    write_guard(directory, Guard("a0bd3266b1b67a9c60877ab72b1ffe7b", 0, False, 12345))
    with pytest.raises(StorageCorruptError, match="it has changed since it was closed"):
        SqliteStore.open(directory)
    assert version_of(directory) == 1
    file_sum = sum_of_file(directory / DATABASE)
    write_guard(directory, Guard("a0bd3266b1b67a9c60877ab72b1ffe7b", 0, False, file_sum))
    SqliteStore.open(directory).close()
    assert version_of(directory) == FORMAT_VERSION


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1])
def test_i11_a_format_to_come_is_neither_backed_up_nor_opened(directory: Path, tmp_path: Path, version: int) -> None:
    store = SqliteStore.open(directory)
    store.close()
    connection = apsw.Connection(str(directory / DATABASE), vfs=checksum_vfs())
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    (directory / GUARD_FILE).unlink()
    with pytest.raises(StorageFormatError, match=f"found format version {version}"):
        SqliteStore.open(directory)
    with pytest.raises(StorageFormatError, match=f"found format version {version}"):
        store.backup(tmp_path / "kept")


def _tables(directory: Path) -> list[str]:
    return [row[1] for row in _rows(directory / DATABASE, "sqlite_schema") if row[0] == "table"]


def test_the_golden_directories_hold_one_of_everything() -> None:
    kinds = set(re.findall(r"INSERT INTO (\w+) ", golden(1)))
    assert kinds == {
        *("meta", "object_state", "positions", "invocations", "journal", "timers", "waiters", "promises", "outbox")
    }
    assert {status.value for status in Status} - {Status.READY.value} <= set(re.findall(r"'([\w-]+)'", golden(1)))
