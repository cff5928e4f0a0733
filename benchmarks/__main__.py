"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable

import msgspec

from benchmarks import hot, kafka_state, keys, loop, recovery, sleepers, soak, steps
from benchmarks._comparison import REPETITIONS_MIN, Options, Result
from benchmarks._measured import WrongResultError
from tests.brokers import BrokerUnavailableError

BENCHMARKS: dict[str, Callable[[Options], Iterable[Result]]] = {
    "kafka_state": kafka_state.measure,
    "loop": loop.measure,
    "steps": steps.measure,
    "hot": hot.measure,
    "recovery": recovery.measure,
    "keys": keys.measure,
    "sleepers": sleepers.measure,
    "soak": soak.measure,
}
LONG = ("keys", "sleepers", "soak")  # a quarter of an hour and more: they run when they are named

COLUMNS = "{:<26} {:>12} {:<12} {:>12} {:>7} {:>6} {:<4} {}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure against a baseline, in turns, in one run.",
        epilog="example: python -m benchmarks kafka_state --repetitions 5 --kafka localhost:9092",
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help=f"{', '.join(BENCHMARKS)}; none: all but {', '.join(LONG)}"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS_MIN, metavar="N", help="turns (default: 3)")
    parser.add_argument("--size", type=float, default=1.0, metavar="PART", help="of the scale benchmarks (default: 1)")
    parser.add_argument("--minutes", type=float, default=20.0, metavar="M", help="of soak (default: 20)")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="use this broker (default: start one)")
    clients = list(kafka_state.BASELINES)
    parser.add_argument("--client", choices=clients, default=clients[0], help="of kafka_state (default: confluent)")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if given.repetitions < REPETITIONS_MIN:
        parser.error(f"--repetitions {given.repetitions} is too few; the least is {REPETITIONS_MIN}")
    if not 0 < given.size <= 1:
        parser.error(f"--size {given.size} is no part of the full size; give more than 0, and 1 at most")
    return given


def row(result: Result) -> str:
    low, high = result.spread["ratio"]
    return COLUMNS.format(
        result.benchmark,
        f"{result.figure:,}",
        result.unit,
        f"{result.baseline:,}",
        result.ratio,
        result.goal,
        "yes" if result.met else "no",
        f"ratio {low} to {high}",
    ).rstrip()


def main() -> int:
    given = arguments()
    options = Options(given.repetitions, given.kafka, given.client, given.size, given.minutes)
    if not given.json:
        print(COLUMNS.format("benchmark", "figure", "unit", "baseline", "ratio", "goal", "met", "spread"))
    try:
        for name in given.names or (name for name in BENCHMARKS if name not in LONG):
            for result in BENCHMARKS[name](options):
                print(msgspec.json.encode(result).decode() if given.json else row(result), flush=True)
    except (BrokerUnavailableError, WrongResultError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
