"""On a real broker: a process sleeps (SIGSTOP) while others want its data directory, or its records."""

from __future__ import annotations

from pathlib import Path

from tests.brokers import Broker
from tests.durability import gathering
from tests.durability.checker import check
from tests.durability.child import Child
from tests.durability.rig import Rig, running

SEED = 20_261_123
REFUSED_S_MAX = 30.0
FENCED_S_MAX = 30.0
BURST = 4  # both handle every record, one after the other


def test_a_second_process_is_refused_and_one_that_is_taken_over_stops_and_both_directories_stay_sound(
    kafka_broker: Broker, tmp_path: Path
) -> None:
    first_folder, second_folder = tmp_path / "first", tmp_path / "second"
    first_folder.mkdir()
    second_folder.mkdir()
    with running(kafka_broker, first_folder, SEED, BURST) as first:
        second = Rig(kafka_broker, second_folder, SEED + 1, beside=first)
        intruder = Child(first.arguments, tmp_path / "intruder.log")
        try:
            first.start_and_recover()
            first.run_until_reported()
            first.child.suspend()

            intruder.start()
            words = intruder.ended_by_itself(REFUSED_S_MAX)
            assert f"data directory {first_folder / 'data'} is in use by process {first.child.pid} " in words

            second.child.start()
            words = second.child.ended_by_itself(REFUSED_S_MAX)
            assert f"its offsets are reported by data directory {first.directory_id}" in words
            assert f"this is data directory {second.directory_id}" in words
            assert "--take-over" in words

            second.child.start("--take-over")
            second.run_until_progress()
            second.run_until_reported()
            first.child.resume()
            words = first.child.ended_by_itself(FENCED_S_MAX)
            assert f"data directory {second.directory_id} (start 2) has taken over" in words
            assert gathering.is_whole(first.data) and gathering.is_whole(second.data)

            second.run_until_progress()
            assert check(second.settle()) == []

            # What the first one has is old, and still good: it takes over in its turn, and nothing is doubled in it.
            first.child.start()
            words = first.child.ended_by_itself(REFUSED_S_MAX)
            assert f"its offsets are reported by data directory {second.directory_id}" in words
            first.child.start("--take-over")
            assert check(first.settle()) == []
        finally:
            for child in (second.child, intruder):
                child.close()
