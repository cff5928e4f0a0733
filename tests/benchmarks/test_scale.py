"""The scale benchmarks at a size at which they measure nothing: that their runs do what they claim to measure."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks import hot_app, keys_app, recovery_app, sleepers_app, soak_app, steps_app, steps_raw
from benchmarks._bounds import at_least, at_most, short
from benchmarks._children import check, memory_mib, run, run_and_kill
from benchmarks._clock import SteppedClock
from benchmarks._measured import WrongResultError
from benchmarks._stream import BATCH_RECORDS_MAX, PARTITIONS, Stream
from streamstate import App
from streamstate.definitions import Record, SubscriptionSpec
from streamstate.ingress import PartitionId, Records

SUBSCRIPTION: SubscriptionSpec = App([steps_app.accounts], name="stream").program.subscriptions[0]


def stream_of(records: int) -> Stream:
    return Stream(lambda number: (b"key", b"%d" % number), records)


async def taken(stream: Stream, positions: dict[PartitionId, int]) -> list[Record]:
    source = stream.source(SUBSCRIPTION)
    await source.open(positions)
    polled = await source.poll()
    assert isinstance(polled, Records)
    return list(polled.records)


async def test_a_stream_hands_over_batches_of_consecutive_offsets_of_each_partition() -> None:
    records = await taken(stream_of(5_000), {})
    assert len(records) == BATCH_RECORDS_MAX
    for partition in range(PARTITIONS):
        offsets = [record.offset for record in records if record.partition == partition]
        assert offsets == list(range(BATCH_RECORDS_MAX // PARTITIONS))


async def test_a_stream_goes_on_behind_the_stored_positions() -> None:
    stream = stream_of(5_000)
    first = await taken(stream, {})
    positions = {
        PartitionId(first[0].topic, "", number): BATCH_RECORDS_MAX // PARTITIONS for number in range(PARTITIONS)
    }
    second = await taken(stream, positions)
    assert [record.value for record in first + second] == [b"%d" % number for number in range(2 * BATCH_RECORDS_MAX)]


async def test_a_stream_that_is_used_up_waits_until_it_is_extended() -> None:
    stream = stream_of(0)
    source = stream.source(SUBSCRIPTION)
    await source.open({})
    polling = asyncio.create_task(source.poll())
    await asyncio.sleep(0)
    assert not polling.done()
    stream.extend(3)
    polled = await polling
    assert isinstance(polled, Records)
    assert [record.value for record in polled.records] == [b"0", b"1", b"2"]


def test_a_clock_that_is_set_wakes_who_asked_once_and_never_goes_back() -> None:
    woken: list[int] = []
    clock = SteppedClock(100)
    clock.wake_at(150, lambda: woken.append(clock.now_ms()))
    clock.set(149)
    assert woken == []
    clock.set(200)
    clock.set(120)
    assert (woken, clock.now_ms()) == ([200], 200)


def test_a_bound_is_met_from_either_side() -> None:
    assert at_least("b", "events/s", 100, [90, 110, 120]).met
    assert not at_least("b", "events/s", 100, [80, 99, 120]).met
    assert at_most("b", "s", 10, [9, 10, 30]).met
    assert not at_most("b", "s", 10, [9, 10.5, 11]).met


def test_a_count_in_a_name_is_the_count() -> None:
    assert [short(count) for count in (1_000, 100_000, 10_000_000, 1_500)] == ["1k", "100k", "10m", "1500"]


def test_a_child_that_prints_no_figures_counts_for_nothing(tmp_path: Path) -> None:
    with pytest.raises(WrongResultError, match="printed no figures"):
        run("platform")
    with pytest.raises(WrongResultError, match="printed no figures"):
        run_and_kill("benchmarks.sleepers_app", "fill", "none", tmp_path)
    with pytest.raises(WrongResultError, match="3; expected 4"):
        check("things", 3, 4)


def test_the_most_memory_is_not_less_than_that_of_now() -> None:
    assert 0 < memory_mib() <= memory_mib("VmHWM") + 1


@pytest.mark.parametrize("load", ["callers", "records"])
async def test_every_step_of_both_sides_of_steps_is_durable(tmp_path: Path, load: str) -> None:
    await steps_app.run_load(load, 5, 60, tmp_path / "app")
    assert steps_app.durable(tmp_path / "app", 5) == 60
    tmp_path.joinpath("raw").mkdir()
    figures = await steps_raw.run_load(load, 5, 60, tmp_path / "raw")
    assert figures["durable"] == 60


@pytest.mark.parametrize("access", ["uniform", "skewed"])
async def test_events_of_keys_hit_keys_that_are_there_and_each_is_counted(tmp_path: Path, access: str) -> None:
    keys_app.make(1_000, tmp_path)
    figures = await keys_app.handle(access, 1_000, tmp_path, 300, keys_in_memory_max=50)
    assert figures["handled"] == 300


@pytest.mark.parametrize("kind", ["without", "slow", "paused"])
async def test_a_hot_key_takes_nothing_away_from_the_others(tmp_path: Path, kind: str) -> None:
    figures = await hot_app.handle(kind, 1_500, tmp_path)
    moves, waiting = hot_app.durable(tmp_path)
    assert moves == figures["others"] > 1_400
    assert (waiting > 5) == (kind != "without")


def test_sleepers_survive_a_kill_and_each_wakes_once(tmp_path: Path) -> None:
    run_and_kill("benchmarks.sleepers_app", "fill", 40, tmp_path)
    assert run_and_kill("benchmarks.sleepers_app", "restart", 40, tmp_path)["timers"] == 40
    woken = run("benchmarks.sleepers_app", "wake", 40, tmp_path)
    assert (woken["woken"], woken["astray"]) == (40, 0)


@pytest.mark.parametrize("content", ["keys", "suspended"])
async def test_the_first_event_after_a_crash_is_handled(tmp_path: Path, content: str) -> None:
    run_and_kill("benchmarks.recovery_app", "make", content, 20, tmp_path)
    assert (await recovery_app.restart(content, tmp_path))["handled"] == 1


def test_what_a_soak_should_come_to_is_counted_by_kind() -> None:
    records = 2_000
    plain = sum(soak_app.make(number)[0].startswith(b"order-") for number in range(records))
    assert plain == records * 9 // 10
    assert soak_app.expected(records, made=7) == plain + records // 10 + 7


def test_a_durable_count_that_is_missing_is_seen(tmp_path: Path) -> None:
    keys_app.make(10, tmp_path)
    assert sleepers_app.durable(3, tmp_path) == (0, 3)
