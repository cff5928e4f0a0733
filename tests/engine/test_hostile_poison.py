"""An invocation that takes the process down whenever it runs is found and paused; everything else goes on (T1 to T3).

Real processes, which really end: nobody in them can say goodbye.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from streamstate.storage import SqliteStore, Status

# How often the process may end: as ever, then as often as it takes to be sure; and once more for a sleep that ends
# before it was durable, so that the next start has only the record.
DEATHS_MAX = 7
PROGRAM = Path(__file__).with_name("poisoned.py")


class Told(msgspec.Struct):
    """What a run of the program says of itself when it comes to its end."""

    totals: dict[str, int]
    paused: list[str]
    messages: list[str]


def run_until_it_lives(directory: Path, poison: str) -> tuple[int, Told]:
    """Start the program again and again, as a supervisor would; how often it died, and what it said at last."""
    for deaths in range(DEATHS_MAX + 3):
        run = subprocess.run(
            [sys.executable, str(PROGRAM), str(directory), poison], capture_output=True, timeout=60, check=False
        )
        if run.returncode == 0:
            return deaths, msgspec.json.decode(run.stdout, type=Told)
        assert run.returncode == -9, run.stderr.decode()
    raise AssertionError(f"the program does not get past {poison}")


@pytest.mark.parametrize("poison", ["record", "step", "timer"])
def test_what_takes_the_process_down_is_paused_and_the_rest_goes_on(tmp_path: Path, poison: str) -> None:
    deaths, told = run_until_it_lives(tmp_path / "data", poison)
    assert 0 < deaths <= DEATHS_MAX
    assert len(told.paused) == 1
    assert "the process ended without a word" in told.messages[0]
    # All others took effect exactly once, those of the same key that came before the poison too.
    assert told.totals == {f"k{number}": 20 for number in range(5) if number != 3} | {"k3": 7}


def test_the_next_start_after_a_clean_exit_is_not_wary(tmp_path: Path) -> None:
    deaths, _ = run_until_it_lives(tmp_path / "data", "none")
    assert deaths == 0
    store = SqliteStore.open(tmp_path / "data")
    assert store.header.was_clean
    assert store.trials() == {}
    store.close()


def test_one_that_was_convicted_stays_paused_and_its_key_waits(tmp_path: Path) -> None:
    run_until_it_lives(tmp_path / "data", "record")
    deaths, told = run_until_it_lives(tmp_path / "data", "record")
    assert deaths == 0
    assert len(told.paused) == 1
    store = SqliteStore.open(tmp_path / "data")
    waiting = store.invocations.lane("Counter", "k3", 0, 100)
    assert [row.status for row in waiting] == [Status.PAUSED, *[Status.PENDING] * 12]
    store.close()
