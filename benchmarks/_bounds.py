"""Results against a bound that is a number, not a second measurement: the bound stands where the baseline does."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks._comparison import Result, Turns, compare


def at_least(benchmark: str, unit: str, bound: float, measured: Sequence[float]) -> Result:
    """The more the better: met when the median reaches the bound."""
    return compare(benchmark, unit, 1.0, Turns([bound] * len(measured), measured))


def short(count: int) -> str:
    """A count in a benchmark's name: 100k, 10m."""
    for unit, letter in ((1_000_000, "m"), (1_000, "k")):
        if count >= unit and count % unit == 0:
            return f"{count // unit}{letter}"
    return str(count)


def at_most(benchmark: str, unit: str, bound: float, measured: Sequence[float]) -> Result:
    """The less the better: met when the median does not pass the bound."""
    return compare(benchmark, unit, 1.0, Turns([bound] * len(measured), measured), more_is_better=False)
