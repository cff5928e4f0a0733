"""Measured runs in child processes: each with its own interpreter and its own data directory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

ROOT = Path(__file__).parent.parent
# Not the system's directory for temporary files: where that is memory, fsync costs nothing.
DATA = ROOT / ".streamstate" / "benchmarks"
RUN_S_MAX = 300


class WrongResultError(Exception):
    """A run did not end, or ended with a result that is not the expected one: its time says nothing."""


class Measured(msgspec.Struct, frozen=True):
    """What a child prints: its speed, and what is durable after it, to be checked."""

    events_per_s: float
    result: dict[str, int]


def run_child(module: str, arguments: Sequence[str], expected: dict[str, int]) -> float:
    """Run `python -m module arguments... DIRECTORY` in a child and give its events per second.

    Raises WrongResultError when the child fails, hangs, or its result is not the expected one.
    """
    DATA.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DATA) as directory:
        command = [sys.executable, "-m", module, *arguments, directory]
        try:
            run = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=RUN_S_MAX, check=False)
        except subprocess.TimeoutExpired as error:
            raise WrongResultError(f"{module} did not end within {RUN_S_MAX} s") from error
    if run.returncode != 0:
        raise WrongResultError(f"{module} failed with exit code {run.returncode}:\n{run.stderr.decode()}")
    measured = msgspec.json.decode(run.stdout, type=Measured)
    if measured.result != expected:
        raise WrongResultError(f"{module} gave {measured.result}; expected {expected}")
    return measured.events_per_s
