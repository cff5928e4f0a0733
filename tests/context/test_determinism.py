"""Order never depends on addresses or hashes: other processes with other hash seeds write the same journals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.context.programs import CASES

ROOT = Path(__file__).parent.parent.parent
SEEDS = ("0", "1", "4242", "random")


def journals_of_a_process(hash_seed: str) -> dict[str, list[object]]:
    path = os.pathsep.join(str(ROOT / folder) for folder in (".", "connectors", "examples"))
    done = subprocess.run(
        [sys.executable, "-c", BALLAST.format(7 * SEEDS.index(hash_seed)) + RUN],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, list[object]] = msgspec.json.decode(done.stdout)
    return found


# So that the same objects get other addresses: their sizes are those that Python's own allocator serves.
BALLAST = "ballast = [bytes(size) for size in range(512) for _ in range({})]\n"
RUN = "import sys; from tests.context.programs import journals; sys.stdout.buffer.write(journals())"


@pytest.fixture(scope="module")
def processes() -> list[dict[str, list[object]]]:
    return [journals_of_a_process(seed) for seed in SEEDS]


@pytest.mark.parametrize("name", CASES)
def test_every_process_writes_the_same_journal(name: str, processes: list[dict[str, list[object]]]) -> None:
    first, *others = (process[name] for process in processes)
    assert first[0], "the program issues commands"
    for other in others:
        assert other == first
