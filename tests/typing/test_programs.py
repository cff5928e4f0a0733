"""What mypy --strict says about users' programs.

Right programs have no errors. Wrong ones mark each wrong line with `# type: ignore[codes]  # expected: …`: the marks
are taken off in a copy, and mypy must then find errors of these codes in these lines and no others.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from streamstate.definitions import Handler

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = Path(__file__).parent / "programs"
MARK = re.compile("  # " + r"type: ignore\[(?P<codes>[\w, -]+)\] .*expected: .+")
ERROR = re.compile(r"(?P<file>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[\w-]+)\]")

Mistakes = set[tuple[str, int, str]]


def marked(program: Path) -> Mistakes:
    lines = program.read_text(encoding="utf-8").splitlines()
    found = ((number, MARK.search(line)) for number, line in enumerate(lines, start=1))
    return {(program.name, number, code) for number, mark in found if mark for code in mark["codes"].split(", ")}


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Mistakes:
    folder = tmp_path_factory.mktemp("programs")
    for program in PROGRAMS.glob("*_*.py"):
        (folder / program.name).write_text(MARK.sub("", program.read_text(encoding="utf-8")), encoding="utf-8")
    options = ["--strict", "--config-file=", "--explicit-package-bases", "--no-pretty", "--no-color-output"]
    cache = f"--cache-dir={ROOT / '.mypy_cache' / 'programs'}"
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *options, cache, *sorted(str(path) for path in folder.glob("*.py"))],
        env={**os.environ, "MYPYPATH": f"{ROOT}{os.pathsep}{folder}"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in (0, 1), run.stdout + run.stderr
    errors = [ERROR.match(line) for line in run.stdout.splitlines() if ": error: " in line]
    assert all(errors), run.stdout
    return {(Path(error["file"]).name, int(error["line"]), error["code"]) for error in errors if error}


@pytest.mark.parametrize("program", sorted(PROGRAMS.glob("good_*.py")), ids=lambda path: path.stem)
def test_a_right_program_has_no_errors(program: Path, reported: Mistakes) -> None:
    assert marked(program) == set()
    assert {mistake for mistake in reported if mistake[0] == program.name} == set()


@pytest.mark.parametrize("program", sorted(PROGRAMS.glob("good_*.py")), ids=lambda path: path.stem)
def test_a_right_program_declares_without_complaint(program: Path) -> None:
    names = runpy.run_path(str(program))
    handlers = [value for value in names.values() if isinstance(value, Handler)]
    assert len(handlers) >= 5
    assert all(handler.spec.target for handler in handlers)


@pytest.mark.parametrize("program", sorted(PROGRAMS.glob("bad_*.py")), ids=lambda path: path.stem)
def test_a_wrong_program_has_an_error_in_every_marked_line_and_nowhere_else(program: Path, reported: Mistakes) -> None:
    assert marked(program) != set()
    assert {mistake for mistake in reported if mistake[0] == program.name} == marked(program)


def test_nothing_but_the_programs_is_complained_about(reported: Mistakes) -> None:
    assert {file for file, _, _ in reported} <= {path.name for path in PROGRAMS.glob("bad_*.py")}
