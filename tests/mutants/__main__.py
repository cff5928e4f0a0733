"""python -m tests.mutants: puts one bug after the other into a copy of the tree, and expects the suite to see each."""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.catalog import MUTANTS
from tests.mutants.mutant import Mutant
from tests.mutants.runner import Copy, Ran

_telling = threading.Lock()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="those whose name, file or rule holds one of these")
    parser.add_argument("--list", action="store_true", help="show them, and run nothing")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    arguments = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if _is_meant(mutant, arguments.only)]
    if not chosen:
        sys.stderr.write("no mutant of that name; --list shows all\n")
        return 2
    if arguments.list:
        for mutant in chosen:
            sys.stdout.write(f"{mutant.name}\n    {mutant.rule}\n    {mutant.file}\n    {' '.join(mutant.tests)}\n")
        return 0
    return _run(chosen, arguments.jobs)


def _is_meant(mutant: Mutant, only: Sequence[str] | None) -> bool:
    return only is None or any(part in f"{mutant.name} {mutant.file} {mutant.rule}" for part in only)


def _run(mutants: Sequence[Mutant], jobs: int) -> int:
    """1 when a mutant survived, or when a test that has caught one fails without it too."""
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        # All of one moment, though somebody may be at work on the tree.
        first = Copy(Path(folder, "0"))
        copies: SimpleQueue[Copy] = SimpleQueue()
        copies.put(first)
        for number in range(1, jobs):
            copies.put(Copy(Path(folder, str(number)), first.folder))

        def examine(mutant: Mutant) -> Ran:
            copy = copies.get()
            try:
                with copy.mutated(mutant):
                    ran = copy.run(mutant.tests, "-x")
            except ValueError as error:
                ran = Ran(False, "", str(error), 0)
            finally:
                copies.put(copy)
            _tell(mutant, ran)
            return ran

        with ThreadPoolExecutor(jobs) as workers:
            all_ran = list(workers.map(examine, mutants))
        without = first.run(sorted({ran.first for ran in all_ran if ran.is_red}))
        while not copies.empty():
            copies.get().close()
    survivors = [mutant.name for mutant, ran in zip(mutants, all_ran, strict=True) if not ran.is_red]
    caught = len(mutants) - len(survivors)
    sys.stdout.write(f"{caught} of {len(mutants)} caught, in {time.monotonic() - started_s:.0f} s\n")
    for name in survivors:
        sys.stdout.write(f"survived: {name}\n")
    if caught and (without.is_red or without.problem):
        sys.stdout.write(f"red without any mutant too: {without.first or without.problem}\n")
        return 1
    return 1 if survivors else 0


def _tell(mutant: Mutant, ran: Ran) -> None:
    caught_by = ran.first if ran.is_red else f"SURVIVED {ran.problem}"
    with _telling:
        sys.stdout.write(f"{mutant.name:<75} | {mutant.rule[:60]:<60} | {caught_by} | {ran.seconds:.0f} s\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
