"""The processes of `keys`: make a directory with so many keys, and handle events on it."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import msgspec

from benchmarks._children import memory_mib, report
from benchmarks._stream import Stream, until_taken
from streamstate import App, ObjectContext, Start, StateKey, VirtualObject, subscribe
from streamstate.engine import EngineOptions
from streamstate.storage import Batch, SqliteStore

BATCH_KEYS = 20_000


class Moved(msgspec.Struct):
    """One event."""

    order: str
    metres: int


class Driver(msgspec.Struct):
    """The state of one key."""

    moves: int
    metres: int
    lat: float
    lon: float


DRIVER = StateKey[Driver]("driver")

drivers = VirtualObject("Driver")


@subscribe("moves", start=Start.earliest())
@drivers.handler
async def moved(ctx: ObjectContext, move: Moved) -> None:
    driver = await ctx.get(DRIVER)
    if driver is None:
        raise LookupError(f"{ctx.key} has no state, though the directory was made with it")
    driver.moves += 1
    driver.metres += move.metres
    ctx.set(DRIVER, driver)


def make(keys: int, directory: Path) -> None:
    """Write the states as the engine would, in the order of the table: a million takes seconds."""
    value = msgspec.json.encode(Driver(0, 0, 52.51234, 13.41234))
    names = iter(sorted(f"driver-{number}" for number in range(keys)))
    store = SqliteStore.open(directory)
    try:
        while some := list(islice(names, BATCH_KEYS)):
            store.commit(Batch(state={("Driver", name): {"driver": value} for name in some}, clock_ms=1))
    finally:
        store.close()
    report({"keys": keys})


def access_of(name: str, keys: int) -> Callable[[], int]:
    """Gives the number of the next event's key."""
    dice = random.Random(time.time_ns())  # another order in each run: what the last one read would be in caches
    if name == "uniform":
        return lambda: dice.randrange(keys)
    # The chance of rank r falls with 1/r. Ranks are spread over the names, or the hot keys would share few pages.
    spread = 7_919
    return lambda: int(keys ** dice.random()) * spread % keys


async def handle(access: str, keys: int, directory: Path, events: int, keys_in_memory_max: int) -> dict[str, float]:
    """As many events first that do not count, so that the cache holds what it will hold in the long run."""
    value = msgspec.json.encode(Moved("o-123456", 17))
    choose = access_of(access, keys)
    # Made beforehand: choosing costs more than a thousand keys' difference.
    chosen = [b"driver-%d" % choose() for _ in range(2 * events)]
    store = SqliteStore.open(directory)
    before = sum(store.positions().values())
    stream = Stream(lambda number: (chosen[number - before], value), before + events)
    app = App([drivers], name="keys", connectors=[stream])
    async with app.embedded(store, options=EngineOptions(keys_in_memory_max=keys_in_memory_max)) as running:
        await until_taken(running, stream)
        await running.engine.idle()
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        stream.extend(before + 2 * events)
        await until_taken(running, stream)
        await running.engine.idle()
        elapsed_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        handled = sum(store.positions().values()) - before - events
    each = {"cpu_us": cpu_s / events * 1e6, "elapsed_us": elapsed_s / events * 1e6}
    return {**each, "handled": handled, "peak_mib": memory_mib("VmHWM")}


def main(what: str, keys: str, directory: str, *more: str) -> None:
    if what == "make":
        make(int(keys), Path(directory))
    else:
        events, keys_in_memory_max = map(int, more)
        report(asyncio.run(handle(what, int(keys), Path(directory), events, keys_in_memory_max)))


if __name__ == "__main__":
    main(*sys.argv[1:])
