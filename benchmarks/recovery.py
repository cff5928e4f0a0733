"""`recovery`: how long after a crash until the first event has been handled and is durable.

Each directory is made by a process that is killed with all of it in place, and each repetition takes a copy. Counted is
from before the directory is opened; starting the interpreter is not counted, it is the same for all. `_cpu` is
processor time instead of the wall clock. The baseline of `recovery_1k_keys` is a directory that is not there yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import copytree, rmtree

from benchmarks._bounds import at_most, short
from benchmarks._children import check, data_directory, run, run_and_kill
from benchmarks._comparison import Options, Result, Turns, compare

KEYS, KEYS_MANY, SUSPENDED = 1_000, 1_000_000, 100_000
KEYS_S_GOAL = 1.0  # state is not read at a start, however much there is
SUSPENDED_S_GOAL = 2.0  # timers are
RATIO_GOAL = 0.5

APP = "benchmarks.recovery_app"


def measure(options: Options) -> Iterator[Result]:
    """Every kind of directory once per turn."""
    many_keys = max(2 * KEYS, round(KEYS_MANY * options.size))
    all_suspended = max(KEYS, round(SUSPENDED * options.size))
    contents = {
        "empty": ("keys", 0),
        f"{short(KEYS)}_keys": ("keys", KEYS),
        f"{short(many_keys)}_keys": ("keys", many_keys),
        f"{short(all_suspended)}_suspended": ("suspended", all_suspended),
    }
    with data_directory() as directory:
        for name, (content, count) in contents.items():
            run_and_kill(APP, "make", content, count, directory / name)
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in contents}
        for turn in range(options.repetitions + 1):
            for name in contents if turn % 2 else reversed(contents):
                figures = _restart(contents[name][0], directory / name, directory / "copy")
                if turn:  # the first one warms the machine's caches
                    measured[name].append(figures)
    for suffix, figure, unit in (("", "first_event_s", "s"), ("_cpu", "cpu_s", "s CPU")):
        empty, few, many, suspended = ([each[figure] for each in measured[name]] for name in contents)
        names = [f"recovery_{name}{suffix}" for name in contents][1:]
        yield compare(names[0], unit, RATIO_GOAL, Turns(empty, few), more_is_better=False)
        yield at_most(names[1], unit, KEYS_S_GOAL, many)
        yield at_most(names[2], unit, SUSPENDED_S_GOAL, suspended)


def _restart(content: str, made: Path, copy: Path) -> dict[str, float]:
    copytree(made, copy)
    figures = run(APP, "restart", content, 1, copy)
    rmtree(copy)
    check("events handled after the restart", round(figures["handled"]), 1)
    return figures
