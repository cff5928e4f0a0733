"""python -m tests.simulation --seeds 0..2000, or --seed 17 --trace."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

from tests.simulation.generate import plan_of
from tests.simulation.plans import Plan, decode, encode
from tests.simulation.runner import run_seeds
from tests.simulation.runs import Result, simulate
from tests.simulation.shrink import shrink

SHOWN_MAX = 5  # failing seeds that are shown with program and trace


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0..2000", help="from..to, the end excluded")
    parser.add_argument("--seed", type=int, help="one run, here")
    parser.add_argument("--plan", type=Path, help="one run of a plan in a file, as --trace prints it")
    parser.add_argument("--trace", action="store_true", help="print the program and what happened")
    parser.add_argument("--no-shrink", action="store_true", help="leave failing programs as they are")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if arguments.plan is not None:
        return _one(decode(arguments.plan.read_bytes()), arguments.trace)
    if arguments.seed is not None:
        return _one(plan_of(arguments.seed), arguments.trace)
    first, _, end = arguments.seeds.partition("..")
    seeds = range(int(first), int(end))
    return _many(seeds, arguments.processes, not arguments.no_shrink)


def _one(plan: Plan, is_shown: bool) -> int:
    result = simulate(plan, is_tracing=True)
    if is_shown:
        _show(plan, result)
    else:
        _violations(result)
        _say(f"seed {result.seed}: {len(result.violations)} violations, trace {result.digest}")
    return 1 if result.violations else 0


def _many(seeds: range, processes: int, is_shrinking: bool) -> int:
    started_s = time.monotonic()
    total = run_seeds(seeds, processes, _progress if sys.stderr.isatty() else None)
    took_s = time.monotonic() - started_s
    for result in total.failed[:SHOWN_MAX]:
        plan = plan_of(result.seed)
        if is_shrinking:
            plan = shrink(plan, result.violations[0].rule)
        _say(f"--- seed {result.seed} ---")
        _show(plan, simulate(plan, is_tracing=True))
    rules = Counter(result.violations[0].rule for result in total.failed)
    for name, count in sorted(total.exercised.items()):
        _say(f"{count:>10,}  {name}")
    failed = [result.seed for result in total.failed]
    _say(
        f"{len(seeds):,} seeds in {took_s:.1f} s on {processes} processes; {len(failed)} failed {dict(rules)}: {failed}"
    )
    missing = total.missing() if len(seeds) >= 1_000 else []
    if missing:
        _say(f"never happened: {', '.join(missing)}")
    return 1 if failed or missing else 0


def _show(plan: Plan, result: Result) -> None:
    _say(encode(plan).decode())
    _say("\n".join(result.trace))
    _violations(result)
    _say(f"seed {result.seed}: {len(result.violations)} violations, trace {result.digest}")


def _violations(result: Result) -> None:
    for violation in result.violations:
        _say(f"{violation.rule}: {violation.text}")


def _progress(done: int) -> None:
    sys.stderr.write(f"\r{done:,} seeds")
    sys.stderr.flush()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
