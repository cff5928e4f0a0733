"""The README's programs run, type-check and pass, exactly as they are printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"```python\n# (\S+\.py)\n(.*?)```", re.DOTALL)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name, text in _BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_python_block_of_the_readme_names_its_file(programs: Path) -> None:
    blocks = (ROOT / "README.md").read_text(encoding="utf-8").count("```python")
    assert len(list(programs.glob("*.py"))) == blocks


def test_the_programs_type_check_strictly(programs: Path) -> None:
    config = programs / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\n", encoding="utf-8")
    files = sorted(path.name for path in programs.glob("*.py"))
    assert "Success" in run(programs, "mypy", "--config-file", config.name, *files)


def test_the_test_of_the_readme_passes(programs: Path) -> None:
    (programs / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n", encoding="utf-8"
    )
    options = ["-c", "pytest.ini", "-p", "no:cacheprovider"]
    assert "1 passed" in run(programs, "pytest", "-q", *options, "test_drivers.py")


@pytest.mark.parametrize("program", ["drivers", "orders"])
def test_check_accepts_the_programs(programs: Path, program: str) -> None:
    run(programs, "streamstate.cli", "check", f"{program}:app", "--offline")


def test_the_subscription_of_the_first_program_is_printed(programs: Path) -> None:
    printed = run(programs, "streamstate.cli", "subscriptions", "drivers:app", "--format", "json")
    assert "kafka://kafka/driver-updates" in printed
