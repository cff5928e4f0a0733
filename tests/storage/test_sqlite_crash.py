"""A process that is killed in the middle of its commits, and readers beside a writer."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streamstate.storage import Batch, SqliteStore
from tests.storage.rows import one_value

# Each commit writes enough for several pages and some checkpoints; the number is printed when it is acknowledged.
_COMMIT_FOR_EVER = """
import sys
from itertools import count
from pathlib import Path
from streamstate.storage import Batch, SqliteStore

store = SqliteStore.open(Path(sys.argv[1]))
done = store.positions().get(("orders", "topic", "topic-id", 0), 0)
for number in count(done + 1):
    value = b"%d" % number
    keys = [f"key-{k}" for k in range(number % 7 * 100 + 1)]
    store.commit(Batch(
        state={("Order", key): {"n": value, "pad": value * 20} for key in keys} | {("Log", f"{number}"): {"n": value}},
        positions={("orders", "topic", "topic-id", 0): number},
    ))
    print(number, flush=True)
"""


def _run_until_killed(directory: Path, commits: int) -> int:
    """Kill the child in the middle of what follows its n-th acknowledgement; give the last acknowledged number."""
    command = [sys.executable, "-c", _COMMIT_FOR_EVER, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(commits):
            assert child.stdout.readline() != ""
        child.kill()
        rest = child.stdout.read().split("\n")
        child.wait()
    # The last line is whole only if it ends; what the child could still print before the signal counts as acknowledged.
    return int(rest[-2]) if len(rest) > 1 else -1


def _expected_state(last: int) -> dict[str, bytes]:
    values: dict[str, bytes] = {}
    for number in range(max(1, last - 13), last + 1):
        for k in range(number % 7 * 100 + 1):
            values[f"key-{k}"] = b"%d" % number
    return values


def test_s2_after_sigkill_the_store_holds_a_prefix_with_all_that_was_acknowledged(tmp_path: Path) -> None:
    done = 0
    for commits in (3, 40, 151, 80):
        acknowledged = max(_run_until_killed(tmp_path, commits), done + commits)
        store = SqliteStore.open(tmp_path)
        done = store.positions()["orders", "topic", "topic-id", 0]
        assert done in (acknowledged, acknowledged + 1)
        assert all(store.state("Log", f"{number}") == {"n": b"%d" % number} for number in range(1, done + 1))
        assert store.state("Log", f"{done + 1}") == {}
        for key, value in _expected_state(done).items():
            assert store.state("Order", key) == {"n": value, "pad": value * 20}
        store.close()


def test_s2_a_copy_of_the_files_at_any_commit_opens_as_the_commits_until_then(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "data")
    for number in range(1, 6):
        store.commit(one_value(number))
        shutil.copytree(tmp_path / "data", tmp_path / f"image-{number}")
    store.close()
    for number in range(1, 6):
        copy = SqliteStore.open(tmp_path / f"image-{number}")
        assert copy.state("Order", "a") == {"n": b"%d" % number}
        assert copy.state("Order", f"key-{number + 1}") == {}
        copy.close()


@pytest.mark.parametrize("cut_bytes", [1, 24, 4_000, 4_120])
def test_s2_a_torn_tail_of_the_log_loses_the_last_commit_whole_and_nothing_before(
    tmp_path: Path, cut_bytes: int
) -> None:
    store = SqliteStore.open(tmp_path / "data")
    for number in range(1, 6):
        store.commit(one_value(number))
    image = tmp_path / "image"
    shutil.copytree(tmp_path / "data", image)
    store.close()
    log = image / "streamstate.db-wal"
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - cut_bytes)
    copy = SqliteStore.open(image)
    assert copy.state("Order", "a") == {"n": b"4"}
    assert copy.state("Order", "key-5") == {}
    assert copy.positions() == {("orders", "topic", "topic-id", 0): 4}
    copy.close()


def test_s3_readers_see_whole_commits_in_order_while_a_writer_commits(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    last = 300
    returned = 0
    failures: list[BaseException] = []

    def write() -> None:
        nonlocal returned
        try:
            for number in range(1, last + 1):
                names: dict[str, bytes | None] = {f"n{n}": b"%d" % number for n in range(50)}
                store.commit(Batch(state={("Order", "a"): names}, clock_ms=number))
                returned = number
        except BaseException as error:
            failures.append(error)
            raise

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while seen < last and not failures:
        at_least = returned
        values = set(store.state("Order", "a").values())
        assert len(values) <= 1
        now = int(values.pop()) if values else 0
        assert now >= max(at_least, seen)
        seen = now
    writer.join()
    assert not failures
    store.close()


def test_s3_an_open_read_does_not_hold_back_a_commit(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    store.commit(one_value(1))
    reader = store._reading._connection
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM object_state").fetchall() == [(2,)]
    store.commit(one_value(2))
    assert reader.execute("SELECT count(*) FROM object_state").fetchall() == [(2,)]
    reader.execute("COMMIT")
    assert store.state("Order", "a") == {"n": b"2"}
    store.close()
