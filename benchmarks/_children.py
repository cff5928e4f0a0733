"""Children of the scale benchmarks: a module run in a process of its own, which prints its figures as one JSON line."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from benchmarks._measured import DATA, ROOT, WrongResultError

CHILD_S_MAX = 3_600  # a million sleepers on a busy machine take a quarter of it

_figures = msgspec.json.Decoder(dict[str, float])


@contextmanager
def data_directory() -> Iterator[Path]:
    """A directory on a disk, removed in the end."""
    DATA.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DATA) as directory:
        yield Path(directory)


def run(module: str, *arguments: object) -> dict[str, float]:
    """Run `python -m module arguments...`, and give the figures that it printed.

    Raises:
        WrongResultError: it failed, hung, or printed something else.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=CHILD_S_MAX, check=False)
    except subprocess.TimeoutExpired as error:
        raise WrongResultError(f"{module} did not end within {CHILD_S_MAX} s") from error
    if ended.returncode != 0:
        raise WrongResultError(f"{module} failed with exit code {ended.returncode}:\n{ended.stderr.decode()}")
    return _decoded(module, ended.stdout, ended.stderr)


def run_and_kill(module: str, *arguments: object) -> dict[str, float]:
    """Run a child that waits after its figures, and kill it there, so that its directory is left as after a crash.

    Raises:
        WrongResultError: it ended by itself.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=said) as child,
    ):
        assert child.stdout is not None, "asked for by PIPE"
        try:
            line = child.stdout.readline()
        finally:
            child.kill()
        said.seek(0)
        return _decoded(module, line, said.read())


def _decoded(module: str, printed: bytes, said: bytes) -> dict[str, float]:
    try:
        return _figures.decode(printed)
    except msgspec.MsgspecError as error:
        raise WrongResultError(f"{module} printed no figures but {printed!r}:\n{said.decode()}") from error


def report(figures: Mapping[str, float]) -> None:
    """In a child: print the figures."""
    print(msgspec.json.encode(figures).decode(), flush=True)


def wait_to_be_killed() -> None:
    """In a child of `run_and_kill`: stay as it is."""
    while True:
        time.sleep(60)


def memory_mib(what: str = "VmRSS") -> float:
    """Memory of this process: `VmRSS` is that of now, `VmHWM` the most there ever was."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) / 1024
    raise WrongResultError(f"/proc/self/status has no line {what}")


def check(what: str, found: int, expected: int) -> None:
    """Raises WrongResultError when a run did something else than it should have: its time says nothing."""
    if found != expected:
        raise WrongResultError(f"{what}: {found:,}; expected {expected:,}")
