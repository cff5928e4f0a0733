from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from rich.console import Console

from food_ordering import demo
from food_ordering.checker import Check
from food_ordering.demo import DemoOptions, DemoResult
from streamstate.cli import main
from tests.cli.support import streamstate

KEPT = Check("every order is decided once", "12 orders", ())
BROKEN = Check("nothing is lost", "11 of 12 orders", ("order o-7 was never decided",))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[DemoOptions]:
    """The options of each demo that was played; none of them takes any time."""
    seen: list[DemoOptions] = []

    async def play(options: DemoOptions, console: Console) -> DemoResult:
        seen.append(options)
        console.print("playing")
        return DemoResult(
            (KEPT, BROKEN) if options.chaos else (KEPT,), 5, 29.5, Path("left") if options.chaos else None
        )

    monkeypatch.setattr(demo, "run_demo", play)
    return seen


def test_without_options_the_demo_plays_as_it_is_written(played: list[DemoOptions]) -> None:
    assert streamstate("demo").exit_code == 0
    assert played == [DemoOptions()]


def test_options_reach_the_demo(played: list[DemoOptions]) -> None:
    streamstate("demo", "--orders", "3", "--drivers", "2", "--rate", "0.5", "--kafka", "broker:9092", "--keep")
    assert played == [DemoOptions(orders=3, drivers=2, rate=0.5, kafka="broker:9092", keep=True)]


def test_every_number_of_the_command_line_is_one_of_the_demos() -> None:
    command = main.commands["demo"]
    offered = {option.name for option in command.params if isinstance(option, click.Option)} - {"as_json"}
    assert offered < {field.name for field in dataclasses.fields(DemoOptions)}


def test_a_broken_promise_is_exit_code_1(played: list[DemoOptions]) -> None:
    assert streamstate("demo", "--chaos").exit_code == 1


def test_json_is_alone_on_standard_output(played: list[DemoOptions]) -> None:
    result = streamstate("demo", "--chaos", "--json")
    assert result.exit_code == 1
    assert "playing" in result.stderr
    found = json.loads(result.stdout)
    assert (found["is_kept"], found["kills"], found["folder"]) == (False, 5, "left")
    assert found["checks"][1] == {
        "promise": "nothing is lost",
        "is_kept": False,
        "seen": "11 of 12 orders",
        "faults": ["order o-7 was never decided"],
    }


@pytest.mark.parametrize(
    "options",
    [("--orders", "0"), ("--drivers", "none"), ("--rate", "0"), ("--kafka", "broker"), ("--kafka", "b:9092,")],
)
def test_impossible_numbers_and_addresses_are_wrong_usage(played: list[DemoOptions], options: tuple[str, str]) -> None:
    result = streamstate("demo", *options)
    assert result.exit_code == 2
    assert f"Invalid value for '{options[0]}'" in result.stderr
    assert played == []


def test_a_broker_that_is_not_there_is_told_in_one_sentence(nobody: str) -> None:
    result = streamstate("demo", "--kafka", nobody)
    assert result.exit_code == 1
    assert nobody in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("missing", ["confluent_kafka", "food_ordering"])
def test_what_is_not_installed_is_told_with_the_remedy(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from streamstate.cli import main; main(['demo'])"
    path = ":".join(path for path in sys.path if path)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, env={"PYTHONPATH": path}, check=False)
    said = run.stderr.decode()
    assert run.returncode == 1
    assert said.endswith("pip install 'streamstate[kafka]'\n")
    assert missing in said
    assert "Traceback" not in said
