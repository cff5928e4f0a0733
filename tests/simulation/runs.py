"""Runs one plan, and says what came of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.simulation.oracle import Oracle
from tests.simulation.plans import Plan
from tests.simulation.witness import Violation
from tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run.

    Attributes:
        exercised: how often each thing happened that a run is for.
        trace, digest: of what happened, when it was traced.
    """

    seed: int
    violations: tuple[Violation, ...]
    exercised: Counter[str]
    trace: tuple[str, ...]
    digest: str


@contextmanager
def quiet() -> Iterator[None]:
    """Without the engine's log, which tells of every failure that a plan means to happen."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)


def simulate(plan: Plan, is_tracing: bool = False) -> Result:
    """Run a plan to its end, and judge it."""
    with quiet():
        world = World(plan, is_tracing)
        world.run()
    witness = world.witness
    if not witness.violations:
        Oracle(world).judge()
    witness.count("runs")
    witness.count("processes", world.processes)
    witness.count("commits", world.audit.commits)
    return Result(
        plan.seed,
        tuple(witness.violations),
        witness.exercised,
        tuple(witness.trace),
        witness.digest() if is_tracing else "",
    )
