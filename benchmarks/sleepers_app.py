"""The processes of `sleepers`: fill a directory, restart on it, wake everybody."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from benchmarks._children import memory_mib, report, wait_to_be_killed
from benchmarks._clock import SteppedClock
from benchmarks._stream import Stream, until_taken
from streamstate import App, ObjectContext, Start, StateKey, VirtualObject, subscribe
from streamstate.app import Running
from streamstate.engine import EngineOptions
from streamstate.storage import SqliteStore

BEGIN_MS = 1_800_000_000_000
SHORTEST_MS = 3_600_000  # they sleep one to two hours of the benchmark's clock
SPREAD_MS = 3_600_000
MOVES = 20  # of the clock, until all have woken
PRIME = 7_919  # neighbours in the topic do not wake one after the other

WOKEN = StateKey[int]("woken")


@dataclass(slots=True)
class Seen:
    """How many handlers of this process have gone on."""

    woken: int = 0


def sleep_ms(number: int, sleepers: int) -> int:
    return SHORTEST_MS + number * PRIME % sleepers * SPREAD_MS // sleepers


def build(sleepers: int, seen: Seen) -> tuple[App, Stream]:
    beds = VirtualObject("Bed")

    @subscribe("bedtime", start=Start.earliest())
    @beds.handler
    async def rest(ctx: ObjectContext, duration_ms: int) -> None:
        await ctx.sleep(timedelta(milliseconds=duration_ms))
        seen.woken += 1
        # A second waking would overwrite the moment by a sum that fits no clock.
        ctx.set(WOKEN, (await ctx.get(WOKEN) or 0) + round((await ctx.time()).timestamp() * 1000))

    stream = Stream(lambda number: (b"bed-%d" % number, b"%d" % sleep_ms(number, sleepers)), sleepers)
    return App([beds], name="sleepers", connectors=[stream]), stream


@asynccontextmanager
async def running_on(sleepers: int, directory: Path, seen: Seen) -> AsyncIterator[tuple[Running, Stream, SteppedClock]]:
    app, stream = build(sleepers, seen)
    clock = SteppedClock(BEGIN_MS)
    async with app.embedded(directory, options=EngineOptions(clock=clock)) as running:
        yield running, stream, clock


async def fill(sleepers: int, directory: Path) -> None:
    began_s = time.perf_counter()
    async with running_on(sleepers, directory, Seen()) as (running, stream, _clock):
        await until_taken(running, stream)
        await running.engine.idle()
        report({"peak_mib": memory_mib("VmHWM"), "fill_s": time.perf_counter() - began_s})
        wait_to_be_killed()


async def restart(sleepers: int, directory: Path) -> None:
    began_s = time.perf_counter()
    async with running_on(sleepers, directory, Seen()) as (running, _stream, _clock):
        await running.engine.idle()
        elapsed_s = time.perf_counter() - began_s
        timers = len(running.engine.core.timers) - 1  # the engine's own, that purges
        report({"restart_s": elapsed_s, "peak_mib": memory_mib("VmHWM"), "timers": timers})
        wait_to_be_killed()


async def wake(sleepers: int, directory: Path) -> None:
    """Move the clock on and on; after each move count who woke, against who should have."""
    seen, astray = Seen(), 0
    due = sorted(BEGIN_MS + sleep_ms(number, sleepers) for number in range(sleepers))
    async with running_on(sleepers, directory, seen) as (running, _stream, clock):
        began_s = time.perf_counter()
        expected = 0
        for move in range(1, MOVES + 1):
            now_ms = BEGIN_MS + SHORTEST_MS + SPREAD_MS * move // MOVES
            clock.set(now_ms)
            await running.engine.idle()
            while expected < sleepers and due[expected] <= now_ms:
                expected += 1
            astray += abs(seen.woken - expected)
        elapsed_s = time.perf_counter() - began_s
    woken, early = durable(sleepers, directory)
    figures = {"wakes_per_s": sleepers / elapsed_s, "peak_mib": memory_mib("VmHWM")}
    report({**figures, "woken": woken, "astray": astray + early})


def durable(sleepers: int, directory: Path) -> tuple[int, int]:
    """From the store: how many keys say that they woke, at a moment that can be; and how many too early."""
    store = SqliteStore.open(directory)
    woken = early = 0
    try:
        for number in range(sleepers):
            moment = int(store.state("Bed", f"bed-{number}").get("woken", b"0"))
            woken += 0 < moment <= BEGIN_MS + SHORTEST_MS + SPREAD_MS
            early += moment < BEGIN_MS + sleep_ms(number, sleepers)
    finally:
        store.close()
    return woken, early


def main(phase: str, sleepers: str, directory: str) -> None:
    phases = {"fill": fill, "restart": restart, "wake": wake}
    asyncio.run(phases[phase](int(sleepers), Path(directory)))


if __name__ == "__main__":
    main(*sys.argv[1:])
