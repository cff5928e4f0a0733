"""`streamstate backup` and `streamstate restore`; what they do is tested in tests/storage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.progress import Progress

from streamstate.cli._backup import _Told
from streamstate.storage import Batch, SqliteStore
from tests.cli.support import started, streamstate
from tests.storage.rows import accepted, message, one_value, row

NARROW = 40


@pytest.fixture
def store(project: Path) -> SqliteStore:
    """A data directory named `data`, closed at the end of the test by its process."""
    store = SqliteStore.open(project / "data")
    store.commit(accepted(row("inv_1")))
    store.commit(one_value(1_767_225_600_000))
    return store


def test_a_backup_is_taken_and_restored_and_said_what_it_means(store: SqliteStore) -> None:
    taken = streamstate("backup", "data", "kept")
    store.close()
    assert (taken.exit_code, taken.stderr) == (0, "")
    assert "kept is a backup of data" in taken.stdout
    assert "everything up to 2026-01-01 00:00:00 UTC" in taken.stdout
    assert f"{store.header.directory_id}, owner epoch 1, format 2" in taken.stdout
    assert "1 invocations, 2 object_state, 1 positions" in taken.stdout
    done = streamstate("restore", "kept", "again")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "later records are processed again" in done.stdout
    assert f"has the same id, {store.header.directory_id}: it must not run any more" in done.stdout
    again = SqliteStore.open(Path("again"))
    assert again.state("Order", "a") == {"n": b"1767225600000"}
    again.close()


def test_a_restore_asks_what_becomes_of_the_outbox(store: SqliteStore) -> None:
    store.commit(Batch(outbox=[message(1)]))
    store.close()
    streamstate("backup", "data", "kept")
    refused = streamstate("restore", "kept", "again")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "--outbox keep publishes them at the first start" in refused.stderr
    assert "--outbox drop forgets them" in refused.stderr
    assert not Path("again").exists()
    assert (
        "1 messages are published at the first start"
        in streamstate("restore", "kept", "again", "--outbox", "keep").stdout
    )
    assert "1 messages were dropped" in streamstate("restore", "kept", "third", "--outbox", "drop").stdout


def test_json_holds_the_facts(store: SqliteStore) -> None:
    store.close()
    taken = json.loads(streamstate("backup", "data", "kept", "--json").stdout)
    assert taken["rows"]["object_state"] == 2
    assert taken["bytes"] == Path("kept").stat().st_size
    done = json.loads(streamstate("restore", "kept", "again", "--json").stdout)
    assert done["backup"] == {**taken, "path": "kept"}
    assert done["epoch"] > taken["epoch"] == 1
    assert done["outbox"] is None


def test_refusals_are_one_sentence_and_exit_code_1(store: SqliteStore) -> None:
    store.close()
    streamstate("backup", "data", "kept")
    again = streamstate("backup", "data", "kept")
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.startswith("Error: kept is there already")
    assert streamstate("restore", "kept", "data").exit_code == 1
    assert streamstate("backup", "nowhere", "other").exit_code == 2


@pytest.mark.parametrize("command", [("backup", "data", "one"), ("restore", "kept", "two")], ids=" ".join)
def test_a_narrow_terminal_gets_no_broken_lines(store: SqliteStore, command: tuple[str, ...]) -> None:
    store.close()
    streamstate("backup", "data", "kept")
    lines = streamstate(*command, columns=NARROW).stdout.splitlines()
    assert [line for line in lines if len(line) > NARROW] == []


def test_a_bar_shows_only_where_there_is_time_to_read_it() -> None:
    bars = Progress(disable=True)
    told = _Told(bars)
    told(100, 200)
    assert not bars.tasks[0].visible
    told(10_000, 100_000)
    assert bars.tasks[0].visible
    assert (bars.tasks[0].completed, bars.tasks[0].total) == (40_960_000, 409_600_000)


async def test_another_process_takes_the_backup_while_the_store_is_at_work(store: SqliteStore) -> None:
    async with started("backup", "data", "kept") as running:
        store.commit(one_value(1_767_225_600_001))
        assert await running.exit_code() == 0, running.output
    store.commit(one_value(1_767_225_600_002))
    store.close()
