from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamstate.cli import main
from tests.cli.support import shop, streamstate

NARROW = 40


@pytest.mark.parametrize("command", [(), *((name,) for name in main.commands)], ids=" ".join)
def test_every_help_shows_an_example(command: tuple[str, ...]) -> None:
    result = streamstate(*command, "--help")
    assert result.exit_code == 0
    assert re.search(r"Example:\n\s+streamstate \w+", result.stdout)


def test_the_version_is_told() -> None:
    assert re.match(r"streamstate(, from sources that are not installed| \d)", streamstate("--version").stdout)


def test_an_unknown_command_is_wrong_usage() -> None:
    result = streamstate("rum")
    assert result.exit_code == 2
    assert "No such command 'rum'" in result.stderr


@pytest.mark.parametrize("command", [("check", "shop:app", "--offline"), ("subscriptions", "shop:app")], ids=" ".join)
def test_a_narrow_terminal_gets_blocks_instead_of_broken_tables(project: Path, command: tuple[str, ...]) -> None:
    shop(project)
    lines = streamstate(*command, columns=NARROW).stdout.splitlines()
    assert [line for line in lines if len(line) > NARROW] == []
    assert "subscription drivers.Driver.moved" in lines
    assert "  topics: driver-updates" in lines


def test_names_that_are_longer_than_a_narrow_line_are_folded_and_not_cut(project: Path) -> None:
    shop(project)
    source = (project / "shop.py").read_text("utf-8")
    topic = "updates-of-all-the-drivers-in-the-whole-wide-world"
    (project / "shop.py").write_text(source.replace("driver-updates", topic), encoding="utf-8")
    output = streamstate("check", "shop:app", "--offline", columns=NARROW).stdout
    assert f"topics:{topic}" in re.sub(r"\s", "", output)
