"""Runs many seeds, in several processes, and adds up what came of them."""

from __future__ import annotations

import gc
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.generate import plan_of
from tests.simulation.runs import Result, quiet, simulate

CHUNK = 25  # seeds that a process is given at a time

# What the runs of a thousand seeds must have put to work, or they would show nothing: each at least once.
MUST_HAPPEN = (
    "crash",
    "crash_before",
    "crash_after",
    "commit_error",
    "stop",
    "crash with a commit under way",
    "crash with actions running",
    "crash with turns not yet durable",
    "crash with a queue at a key",
    "crash with handlers waiting",
    "crash with arrivals not yet seen",
    "crash with clients waiting",
    "crash with messages in the outbox",
    "cancel suspended",
    "cancel running",
    "cancel pending",
    "cancel scheduled",
    "cancel backing-off",
    "cancel paused",
    "kill suspended",
    "kill running",
    "kill pending",
    "kill scheduled",
    "kill backing-off",
    "kill paused",
    "resume paused",
    "resume backing-off",
    "clock jumps forward",
    "clock jumps back",
    "rewinds",
    "records delivered again",
    "sink failures",
    "published again",
    "duplicates found",
    "inputs handed in again",
    "commits of several turns",
    "replays",
    "queues spilled",
    "actions run again",
    "cycles refused",
    "timeouts",
    "timers",
    "paused",
    "clients told of a pause",
    "positions reported",
)


@dataclass(slots=True)
class Total:
    """What came of many runs.

    Attributes:
        failed: the runs that broke a rule, by seed.
    """

    exercised: Counter[str] = field(default_factory=Counter)
    failed: list[Result] = field(default_factory=list)

    def add(self, results: Iterable[Result]) -> None:
        for result in results:
            self.exercised += result.exercised
            if result.violations:
                self.failed.append(result)
        self.failed.sort(key=lambda each: each.seed)

    def missing(self) -> list[str]:
        """What never happened, and should have."""
        return [name for name in MUST_HAPPEN if not self.exercised[name]]


def run_chunk(seeds: Sequence[int]) -> list[Result]:
    """The runs of some seeds, here."""
    with quiet():
        results = [simulate(plan_of(seed)) for seed in seeds]
        gc.collect()  # what a dead process leaves behind complains when it is collected
    return results


def run_seeds(seeds: range, processes: int, told: Callable[[int], None] | None = None) -> Total:
    """The runs of all these seeds; `told` hears how many are done."""
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    total = Total()
    done = 0
    # Spawned, not forked: the caller may have threads.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for chunk, results in zip(chunks, pool.map(run_chunk, chunks), strict=True):
            total.add(results)
            done += len(chunk)
            if told is not None:
                told(done)
    return total
