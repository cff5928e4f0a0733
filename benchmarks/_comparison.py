"""How a benchmark measures: baseline and subject in turns, medians, spread, and the ratio of each turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import msgspec

REPETITIONS_MIN = 3  # fewer give no median worth the name


class Options(msgspec.Struct, frozen=True):
    """What the command line says.

    Attributes:
        repetitions: how often baseline and subject are measured, in turns.
        kafka: address of the broker to use; None starts one.
        client: the Kafka client library, where there is a choice: of the engine and of the baseline alike.
        size: a part of the full size of the scale benchmarks, for a quick look.
        minutes: how long `soak` puts load on.
    """

    repetitions: int
    kafka: str | None
    client: str = "confluent"
    size: float = 1.0
    minutes: float = 20.0


class Result(msgspec.Struct, frozen=True):
    """One line of output.

    Attributes:
        benchmark: its name.
        figure: the subject's median.
        unit: of figure and baseline.
        baseline: the baseline's median.
        ratio: median of the ratios of each turn; above 1 the subject is better.
        goal: the least ratio wanted.
        met: whether ratio reaches goal.
        spread: least and greatest of figure, baseline and ratio.
    """

    benchmark: str
    figure: float
    unit: str
    baseline: float
    ratio: float
    goal: float
    met: bool
    spread: dict[str, tuple[float, float]]


class Turns(msgspec.Struct, frozen=True):
    """What was measured: the n-th of each was measured in the same turn."""

    baseline: Sequence[float]
    subject: Sequence[float]


def take_turns(baseline: Callable[[], float], subject: Callable[[], float], repetitions: int) -> Turns:
    """Measure both once per turn, after one run of each that does not count: it warms caches and servers.

    Who begins changes from turn to turn, so that a drift of the machine favours none.
    """
    baseline()
    subject()
    measured: dict[Callable[[], float], list[float]] = {baseline: [], subject: []}
    for turn in range(repetitions):
        for measure in (baseline, subject) if turn % 2 == 0 else (subject, baseline):
            measured[measure].append(measure())
    return Turns(measured[baseline], measured[subject])


def compare(benchmark: str, unit: str, goal: float, turns: Turns, *, more_is_better: bool = True) -> Result:
    """The result of a benchmark's turns; with `more_is_better=False` (durations) the ratio is turned over."""
    pairs = zip(turns.subject, turns.baseline, strict=True)
    ratios = [subject / baseline if more_is_better else baseline / subject for subject, baseline in pairs]
    ratio = statistics.median(ratios)
    return Result(
        benchmark=benchmark,
        figure=_rounded(statistics.median(turns.subject)),
        unit=unit,
        baseline=_rounded(statistics.median(turns.baseline)),
        ratio=round(ratio, 3),
        goal=goal,
        met=ratio >= goal,
        spread={
            "figure": (_rounded(min(turns.subject)), _rounded(max(turns.subject))),
            "baseline": (_rounded(min(turns.baseline)), _rounded(max(turns.baseline))),
            "ratio": (round(min(ratios), 3), round(max(ratios), 3)),
        },
    )


def _rounded(value: float) -> float:
    return round(value) if value >= 1000 else round(value, 3)
