"""The engine under simulation: seeds that any change must pass, and the simulation itself under test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.generate import plan_of
from tests.simulation.plans import Fault, Input, Plan, Run, Script, decode, encode
from tests.simulation.runner import run_seeds
from tests.simulation.runs import simulate

SEEDS = range(2_000)
ROOT = Path(__file__).parents[2]

# Plans, shrunk, that once broke a rule; each is named for what the engine did wrong.
FOUND = sorted((Path(__file__).parent / "found").glob("*.json"))


@pytest.mark.timeout(600)
def test_two_thousand_seeds_break_no_rule_and_put_everything_to_work() -> None:
    total = run_seeds(SEEDS, processes=2)
    shown = [(result.seed, *result.violations[0]) for result in total.failed[:5]]
    assert not total.failed, f"{len(total.failed)} seeds failed; python -m tests.simulation --seed N --trace: {shown}"
    assert not total.missing(), "the simulation has become vacuous"


def test_a_seed_replays_exactly_also_in_another_process() -> None:
    seeds = range(100, 110)
    here = {seed: simulate(plan_of(seed), is_tracing=True).digest for seed in seeds}
    again = {seed: simulate(plan_of(seed), is_tracing=True).digest for seed in seeds}
    assert here == again
    code = (
        "from tests.simulation.generate import plan_of\n"
        "from tests.simulation.runs import simulate\n"
        f"print({{seed: simulate(plan_of(seed), is_tracing=True).digest for seed in {seeds!r}}})"
    )
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
        assert run.stdout.decode().strip() == str(here)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_what_was_found_once_is_not_found_again(path: Path) -> None:
    result = simulate(decode(path.read_bytes()))
    assert result.violations == ()


def test_seeds_differ() -> None:
    assert len({simulate(plan_of(seed), is_tracing=True).digest for seed in range(8)}) == 8


def test_a_plan_survives_being_printed() -> None:
    plan = plan_of(3)
    assert decode(encode(plan)) == plan
    assert simulate(decode(encode(plan)), is_tracing=True).digest == simulate(plan, is_tracing=True).digest


def test_a_crash_in_the_middle_of_a_step_runs_its_action_again() -> None:
    script = Script("t0", (Run("0", ms=1_000),))
    plan = Plan(1, (Input(0, "record", "change", "k", script),), (Fault(500, "crash"),))
    result = simulate(plan, is_tracing=True)
    assert result.violations == ()
    assert result.exercised["actions"] == 2
    assert result.exercised["processes"] == 2
