"""`hot`: what one key in five thousand costs the others, when it gets one record in a hundred and cannot keep up.

The baseline is the same stream without that key's records. `hot_slow`: each of its events takes a step of 20 ms, so
that nearly all of them wait in its inbox. `hot_paused`: its first event has paused it, and all others wait. Counted are
the others' events, by the wall clock and by processor time, until every record is decided and that is durable.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks._children import check, data_directory, run
from benchmarks._comparison import Options, Result, Turns, compare

RECORDS = 400_000
GOAL = 0.9

APP = "benchmarks.hot_app"
KINDS = ("without", "slow", "paused")


def measure(options: Options) -> Iterator[Result]:
    """All three once per turn."""
    records = max(50_000, round(RECORDS * options.size))
    turns = [_turn(records, turn) for turn in range(options.repetitions + 1)][1:]
    for kind in KINDS[1:]:
        for suffix, figure, unit, more_is_better in (
            ("", "others_per_s", "events/s", True),
            ("_cpu", "others_cpu_us", "µs CPU", False),
        ):
            compared = Turns([turn["without"][figure] for turn in turns], [turn[kind][figure] for turn in turns])
            yield compare(f"hot_{kind}{suffix}", unit, GOAL, compared, more_is_better=more_is_better)


def _turn(records: int, turn: int) -> dict[str, dict[str, float]]:
    measured = {}
    for kind in KINDS if turn % 2 == 0 else reversed(KINDS):
        with data_directory() as directory:
            figures = measured[kind] = run(APP, kind, records, directory)
        check(f"events of the others, {kind}", round(figures["durable"]), round(figures["others"]))
        if kind != "without":
            check(f"whether the hot key's inbox was long, {kind}", int(figures["waiting"] > records / 250), 1)
    return measured
