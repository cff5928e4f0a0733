"""What the benchmarks make of their measurements; nothing here measures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count

import msgspec
import pytest

from benchmarks._comparison import Turns, compare, take_turns
from benchmarks._measured import WrongResultError, run_child


def test_baseline_and_subject_are_measured_in_turns_and_each_begins_every_other_turn() -> None:
    order: list[str] = []
    clock: Iterator[int] = count()

    def measure(name: str) -> float:
        order.append(name)
        return float(next(clock))

    turns = take_turns(lambda: measure("baseline"), lambda: measure("subject"), repetitions=3)
    warm_up = ["baseline", "subject"]
    assert order == [*warm_up, "baseline", "subject", "subject", "baseline", "baseline", "subject"]
    assert turns == Turns(baseline=[2.0, 5.0, 6.0], subject=[3.0, 4.0, 7.0])


def test_the_ratio_is_the_median_of_the_ratios_of_each_turn() -> None:
    result = compare("b", "events/s", 0.8, Turns(baseline=[100, 200, 400], subject=[90, 100, 380]))
    assert (result.figure, result.baseline, result.ratio, result.met) == (100, 200, 0.9, True)
    assert result.spread["ratio"] == (0.5, 0.95)


def test_a_duration_is_better_when_it_is_shorter() -> None:
    result = compare("b", "µs", 0.8, Turns(baseline=[1, 1, 1], subject=[4, 4, 4]), more_is_better=False)
    assert (result.ratio, result.met) == (0.25, False)


def test_a_result_is_one_json_object_with_the_agreed_keys() -> None:
    result = compare("b", "events/s", 0.8, Turns(baseline=[1, 2, 3], subject=[1, 2, 3]))
    shown = json.loads(msgspec.json.encode(result))
    assert list(shown) == ["benchmark", "figure", "unit", "baseline", "ratio", "goal", "met", "spread"]


def test_a_run_that_fails_counts_for_nothing() -> None:
    with pytest.raises(WrongResultError, match=r"failed with exit code 2"):
        run_child("json.tool", ["--no-such-option"], {"moves": 1})
