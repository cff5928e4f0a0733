"""`steps`: one journaled step and one state write an invocation, against a program that does both by hand.

`steps`: a thousand callers, each with a key of its own, calling again when they are answered. `steps_records`: the same
work from records of a thousand keys. `steps_32`: 32 callers, and how long each waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks._bounds import at_least
from benchmarks._children import check, data_directory, run
from benchmarks._comparison import Options, Result, Turns, compare

STEPS = 60_000
STEPS_PER_S_GOAL = 10_000
# A tenth: the program by hand has no journal, ids, retries, cancellation or views, and some 15 µs of Python in all.
RATIO_GOAL = 0.1

APP, RAW = "benchmarks.steps_app", "benchmarks.steps_raw"


def measure(options: Options) -> Iterator[Result]:
    """Every kind of load, baseline and subject in turns."""
    steps = max(4_000, round(STEPS * options.size))
    turns = _turns("callers", 1_000, steps, options.repetitions)
    rates = _of(turns, "steps_per_s")
    yield compare("steps", "steps/s", RATIO_GOAL, rates)
    yield at_least("steps_per_s", "steps/s", STEPS_PER_S_GOAL, rates.subject)
    yield compare("steps_cpu", "µs CPU", RATIO_GOAL, _of(turns, "cpu_us"), more_is_better=False)
    turns = _turns("records", 1_000, steps, options.repetitions)
    yield compare("steps_records", "steps/s", RATIO_GOAL, _of(turns, "steps_per_s"))
    turns = _turns("callers", 32, steps // 2, options.repetitions)
    yield compare("steps_32", "steps/s", RATIO_GOAL, _of(turns, "steps_per_s"))
    yield compare("steps_32_p50", "ms", RATIO_GOAL, _of(turns, "p50_ms"), more_is_better=False)
    yield compare("steps_32_p99", "ms", RATIO_GOAL, _of(turns, "p99_ms"), more_is_better=False)


def _turns(load: str, keys: int, steps: int, repetitions: int) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Baseline and subject of each turn; who begins changes from turn to turn."""

    def one(module: str) -> dict[str, float]:
        with data_directory() as directory:
            figures = run(module, load, keys, steps, directory)
        check(f"durable steps of {module}", round(figures["durable"]), steps // keys * keys)
        return figures

    measured = []
    for turn in range(repetitions):
        order: list[Callable[[], dict[str, float]]] = [lambda: one(RAW), lambda: one(APP)]
        if turn % 2:
            subject, baseline = order[1](), order[0]()
        else:
            baseline, subject = order[0](), order[1]()
        measured.append((baseline, subject))
    return measured


def _of(turns: list[tuple[dict[str, float], dict[str, float]]], figure: str) -> Turns:
    return Turns([baseline[figure] for baseline, _ in turns], [subject[figure] for _, subject in turns])
