"""`sleepers`: a million invocations that sleep, each on a key of its own: their memory, a restart, and their waking.

The process is killed while all of them sleep; what is measured as a restart is what comes after a crash. The clock is
one that the benchmark moves: after each move exactly those have woken whose moment has come, and in the end every
key's state says that it woke once. A run in which that is not so counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

from benchmarks._bounds import at_least, at_most
from benchmarks._children import check, data_directory, run, run_and_kill
from benchmarks._comparison import Options, Result

SLEEPERS = 1_000_000
MEMORY_MIB_GOAL = 1024
RESTART_S_GOAL = 10
WAKES_PER_S_GOAL = 1_000  # a million timers that fall due in a quarter of an hour are not late

APP = "benchmarks.sleepers_app"


def measure(options: Options) -> Iterator[Result]:
    """One directory is filled; each repetition restarts on it, and the last process wakes all."""
    sleepers = round(SLEEPERS * options.size)
    with data_directory() as directory:
        filled = directory / "filled"
        memory = [run_and_kill(APP, "fill", sleepers, filled)["peak_mib"]]
        restarts = []
        for number in range(options.repetitions):
            copy = _copy(filled, directory / f"restart-{number}")
            figures = run_and_kill(APP, "restart", sleepers, copy)
            check("timers after a restart", round(figures["timers"]), sleepers)
            restarts.append(figures["restart_s"])
            memory.append(figures["peak_mib"])
        yield at_most("sleepers_restart", "s", RESTART_S_GOAL, restarts)
        woken = run(APP, "wake", sleepers, filled)
        check("woken early or late", round(woken["astray"]), 0)
        check("woken once", round(woken["woken"]), sleepers)
        memory.append(woken["peak_mib"])
        # The most that any of these processes ever used.
        yield at_most("sleepers_memory", "MiB", MEMORY_MIB_GOAL, [max(memory)])
        yield at_least("sleepers_wake", "wakes/s", WAKES_PER_S_GOAL, [woken["wakes_per_s"]])


def _copy(filled: Path, to: Path) -> Path:
    copytree(filled, to)
    return to
