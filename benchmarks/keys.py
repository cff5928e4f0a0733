"""`keys`: what an event costs that reads and writes the state of its key, by how many keys there are.

The baseline is the same program with a thousand keys, all in memory. `uniform`: every key is as likely as any other,
so that with more keys than the cache holds each event reads and rewrites a page of the disk. `skewed`: the chance of a
key falls with its rank (Zipf's law), as it does for users, products and drivers. Cost is processor time, of all
threads: it stays comparable on a machine that others use too; `_elapsed` is by the wall clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks._bounds import at_most, short
from benchmarks._children import check, data_directory, run
from benchmarks._comparison import Options, Result, Turns, compare

BASE = 1_000
# How many keys, and the part of the thousand's speed that is wanted: at most 20 and 50 % more.
GOALS = {100_000: 1 / 1.2, 1_000_000: 1 / 1.2, 10_000_000: 1 / 1.5}
EVENTS = 300_000
KEYS_IN_MEMORY_MAX = 200_000  # the cache setting: the engine's default
# A key in the cache, with its name, state and places in dicts, may have a kilobyte and a half; beside it there are the
# pages of SQLite's two connections, records ahead of their commit, and the program itself.
MEMORY_MIB_GOAL = KEYS_IN_MEMORY_MAX * 1.5 / 1024 + 2 * 64 + 100

APP = "benchmarks.keys_app"


def measure(options: Options) -> Iterator[Result]:
    """All sizes once per turn; the directories are made before."""
    sizes = {keys: max(BASE * 10, round(keys * options.size)) for keys in GOALS}
    events = max(20_000, round(EVENTS * options.size))
    with ExitStack() as stack:
        directories = {keys: stack.enter_context(data_directory()) for keys in (BASE, *sizes.values())}
        for keys, directory in directories.items():
            run(APP, "make", keys, directory)
        for access in ("skewed", "uniform"):
            turns = [_turn(access, directories, events, turn) for turn in range(options.repetitions + 1)]
            yield from _results(access, sizes, turns[1:])  # the first one warms the machine's caches


def _turn(access: str, directories: dict[int, Path], events: int, turn: int) -> dict[int, dict[str, float]]:
    order = list(directories) if turn % 2 == 0 else list(reversed(directories))
    measured = {}
    for keys in order:
        figures = run(APP, access, keys, directories[keys], events, KEYS_IN_MEMORY_MAX)
        check(f"events handled with {keys:,} keys", round(figures["handled"]), events)
        measured[keys] = figures
    return measured


def _results(access: str, sizes: dict[int, int], turns: list[dict[int, dict[str, float]]]) -> Iterator[Result]:
    for full, keys in sizes.items():
        for suffix, figure, unit in (("", "cpu_us", "µs CPU"), ("_elapsed", "elapsed_us", "µs")):
            compared = Turns([turn[BASE][figure] for turn in turns], [turn[keys][figure] for turn in turns])
            name = f"keys_{short(keys)}_{access}{suffix}"
            yield compare(name, unit, round(GOALS[full], 3), compared, more_is_better=False)
    largest = max(sizes.values())
    yield at_most(f"keys_memory_{access}", "MiB", MEMORY_MIB_GOAL, [turn[largest]["peak_mib"] for turn in turns])
