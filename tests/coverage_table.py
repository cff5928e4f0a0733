"""How much of each package of the core its own tests run, lines and branches: a table, and a floor that it must keep.

    python -m tests.coverage_table [PACKAGE ...]

A package is measured with the tests of its own folder alone, so that nothing counts as tested by accident.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import coverage

ROOT = Path(__file__).parent.parent
FLOOR_PERCENT = 95.0
PACKAGES = ("serde", "journal", "definitions", "context", "storage", "engine", "ingress", "app")


@dataclass(frozen=True, slots=True)
class Measured:
    """What the tests of one package run of it. missing: lines and branches that they do not, by file."""

    package: str
    percent: float
    tests_passed: bool
    missing: str


def measure(package: str, folder: Path) -> Measured:
    """Run the tests of a package, and look at what they ran."""
    data = folder / package
    source = f"streamstate.{package}"
    command = [sys.executable, "-m", "coverage", "run", "--branch", f"--data-file={data}", f"--source={source}"]
    tests = ["-m", "pytest", f"tests/{package}", "-q", "-p", "no:cacheprovider"]
    ran = subprocess.run([*command, *tests], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.stderr.write(ran.stdout[-4_000:] + ran.stderr[-2_000:])
        return Measured(package, 0.0, False, "")  # what a run that failed has covered means nothing
    found = coverage.Coverage(data_file=str(data), config_file=str(ROOT / "pyproject.toml"))
    found.load()
    report = io.StringIO()
    percent = found.report(file=report, show_missing=True, skip_covered=True, precision=1)
    lines = [line for line in report.getvalue().splitlines() if line.startswith("streamstate")]
    return Measured(package, percent, True, "\n".join(lines))


def main(names: list[str]) -> int:
    """Print the table; 1 when a package is below the floor, or a test of it fails."""
    unknown = [name for name in names if name not in PACKAGES]
    if unknown:
        sys.stderr.write(f"no package {unknown[0]!r} to measure; there are: {', '.join(PACKAGES)}\n")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        table = [measure(name, Path(folder)) for name in names or PACKAGES]
    is_good = True
    for each in table:
        is_kept = each.percent >= FLOOR_PERCENT and each.tests_passed
        is_good = is_good and is_kept
        verdict = "" if is_kept else f"  below {FLOOR_PERCENT} %" if each.tests_passed else "  its tests fail"
        sys.stdout.write(f"{each.package:12} {each.percent:6.1f} %{verdict}\n")
        if not is_kept or names:
            sys.stdout.write(f"{each.missing}\n")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
