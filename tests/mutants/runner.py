"""Runs tests in a copy of the tree, with a mutant in it or without."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from tests.mutants.inside import COPY
from tests.mutants.mutant import ROOT, Mutant

_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "dist", "build", "htmlcov")
_FAILED = re.compile(r"^(?:FAILED|ERROR) tests/([^\s\[]+)", re.MULTILINE)
_TEST_TIMEOUT_S = 60  # a mutant that hangs is seen by the test that hangs
_RED = 1  # pytest's exit code for failed tests; any other one but 0 says that nothing was tested
_OPTIONS = (
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:randomly",
    "-p",
    "tests.mutants.inside",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",  # of what was imported before
    f"--timeout={_TEST_TIMEOUT_S}",
    "--tb=line",
)


class Ran(NamedTuple):
    """What became of a run of pytest.

    Attributes:
        is_red: a test has failed; false also when nothing could be run, and then `problem` says why.
        first: the first test that failed, without its parameters.
    """

    is_red: bool
    first: str
    problem: str
    seconds: float


class Copy:
    """A copy of the tree, to do to it what must not be done to the tree itself.

    Args:
        folder: where it will be.
        source: what is copied.
    """

    def __init__(self, folder: Path, source: Path = ROOT) -> None:
        self.folder = folder
        shutil.copytree(source, folder, ignore=_LEFT_OUT)
        self._age_s = 0
        self._output: IO[str] = folder.with_suffix(".output").open("w+", encoding="utf-8")
        paths = [str(folder / path) for path in ("", "connectors", "examples")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.inside"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), COPY: str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            text=True,
        )

    def run(self, tests: Iterable[str], *options: str) -> Ran:
        """Give these tests to pytest, in the copy."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._output.seek(0)
        self._output.truncate()
        started_s = time.monotonic()
        arguments = [*_OPTIONS, *options, *(f"tests/{test}" for test in tests)]
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        took_s = time.monotonic() - started_s
        self._output.seek(0)
        output = self._output.read()
        if answer.strip() not in ("0", str(_RED)):
            return Ran(False, "", f"pytest ended with {answer.strip() or 'nothing'}: {_tail(output)}", took_s)
        failed = _FAILED.search(output)
        return Ran(int(answer) == _RED, failed[1] if failed else "", "", took_s)

    @contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        """The copy with this bug in it."""
        path = self.folder / mutant.file
        text, times = path.read_text(encoding="utf-8"), path.stat()
        path.write_text(mutant.applied(text), encoding="utf-8")
        # A moment of its own: two texts of one length and one second would have one compiled file.
        self._age_s += 1
        os.utime(path, (self._age_s, self._age_s))
        try:
            yield
        finally:
            path.write_text(text, encoding="utf-8")
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def close(self) -> None:
        """End its process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._output.close()


def _tail(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-300:]
