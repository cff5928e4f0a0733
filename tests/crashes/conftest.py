from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from streamstate.storage import SqliteStore
from tests.crashes.disks import Disk, MemoryDisk, SqliteDisk
from tests.crashes.points import Tally

TALLY = pytest.StashKey[Tally]()

# Nothing here depends on what a disk does when the power fails; files in memory make it several times faster.
_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    return pytestconfig.stash.setdefault(TALLY, Tally())


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty data directory."""
    directory = tmp_path_factory.mktemp("crashes") / "template"
    SqliteStore.open(directory).close()
    return directory


@pytest.fixture
def new_disk(request: pytest.FixtureRequest, tmp_path: Path, template: Path) -> Iterator[Callable[[str], Disk]]:
    """Makes an empty disk of this kind."""
    home = _MEMORY / f"streamstate-{os.getpid()}-{tmp_path.name}" if os.access(_MEMORY, os.W_OK) else tmp_path
    numbers = count()

    def make(kind: str) -> Disk:
        return MemoryDisk() if kind == "memory" else SqliteDisk(home / str(next(numbers)), template)

    yield make
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Every crash is an error to the engine that dies of it."""
    names = ("streamstate", "asyncio")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tally = config.stash.get(TALLY, None)
    if tally is not None and tally.tried:
        terminalreporter.section("crashes")
        for line in tally.lines():
            terminalreporter.write_line(line)
