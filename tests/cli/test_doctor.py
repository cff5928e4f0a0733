"""`streamstate doctor`; what it finds is tested in tests/storage."""

from __future__ import annotations

import json
from pathlib import Path

import apsw
import pytest

from streamstate.storage import Batch, SqliteStore, restore_backup
from streamstate.storage._checksums import checksum_vfs
from tests.cli.support import shop, streamstate
from tests.storage.golden import golden, load
from tests.storage.rows import message, one_value

NARROW = 40


@pytest.fixture
def data(project: Path) -> Path:
    load(golden(2), project / "data")
    return Path("data")


def _change(data: Path, sql: str) -> None:
    connection = apsw.Connection(str(data / "streamstate.db"), vfs=checksum_vfs())
    connection.execute(sql)
    connection.close()


def test_a_sound_directory_is_described_and_the_exit_code_is_0(data: Path) -> None:
    result = streamstate("doctor", "data")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "17 invocations, 20 journal" in result.stdout
    assert "2 backing-off, 3 completed, 1 paused" in result.stdout
    assert "Order/failing.flaky  backing-off" in result.stdout
    assert "no problems found; every page was checked" in result.stdout
    assert "every page and every index was checked" in streamstate("doctor", "data", "--full").stdout


def test_a_problem_is_told_with_examples_and_remedy_and_the_exit_code_is_1(data: Path) -> None:
    _change(data, "DELETE FROM timers WHERE kind = 'start'; UPDATE meta SET outbox_position = 0")
    result = streamstate("doctor", "data")
    assert result.exit_code == 1
    assert "Problem: a delayed invocation has no timer: it will never start\n" in result.stderr
    assert "problem: a delayed invocation has no timer: it will never start\n  - inv_" in result.stdout
    assert "  → take a backup, and report it with this output" in result.stdout
    assert "no problems found" not in result.stdout


def test_a_notice_leaves_the_exit_code_at_0(data: Path) -> None:
    _change(data, "DELETE FROM outbox WHERE position = 2")
    result = streamstate("doctor", "data")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "notice: of the messages to memory from 1 to 3, 1 are not there" in result.stdout


def test_json_has_everything(data: Path) -> None:
    _change(data, "DELETE FROM timers WHERE kind = 'start'")
    result = streamstate("doctor", "data", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert document["statuses"]["suspended"] == 7
    assert [(each["level"], each["code"], each["count"]) for each in document["findings"]] == [
        ("problem", "start-without-timer", 1)
    ]
    assert document["waiting"][0]["target"] == "Order/failing.flaky"


def test_a_directory_in_use_shows_its_owner_and_one_that_was_restored_its_past(project: Path) -> None:
    store = SqliteStore.open(project / "data")
    store.commit(one_value(1_767_225_600_000))
    store.commit(Batch(outbox=[message(1)]))
    running = streamstate("doctor", "data")
    store.backup(project / "kept")
    store.close()
    assert "in use by process" in running.stdout
    assert "not in use; last by process" in streamstate("doctor", "data").stdout
    restore_backup(project / "kept", project / "again", "keep")
    past = "restored from a backup of 2026-01-01 00:00:00 UTC (owner epoch 1, 1 messages: keep)"
    assert past in streamstate("doctor", "again").stdout


def test_an_app_is_compared_with_the_directory(data: Path, project: Path) -> None:
    shop(project)
    result = streamstate("doctor", "data", "--app", "shop:app")
    assert result.exit_code == 1
    assert "Problem: the directory belongs to App 'golden', not to 'drivers'" in result.stderr
    assert "invocations of Order.ask have not ended, and the App has no such handler" in result.stderr


def test_what_is_no_data_directory_is_refused(project: Path) -> None:
    (project / "empty").mkdir()
    result = streamstate("doctor", "empty")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: empty is no data directory" in result.stderr
    assert streamstate("doctor", "nowhere").exit_code == 2


def test_a_narrow_terminal_gets_no_broken_lines(data: Path) -> None:
    _change(data, "DELETE FROM timers; UPDATE invocations SET seq = seq + 1000")
    lines = streamstate("doctor", "data", columns=NARROW).stdout.splitlines()
    assert [line for line in lines if len(line) > NARROW] == []
    assert "oldest waiting" in " ".join(lines)
