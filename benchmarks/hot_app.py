"""One process of `hot`: a stream of records, of which some are for the hot key."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from datetime import timedelta
from pathlib import Path

import msgspec

from benchmarks._children import report
from benchmarks._stream import Stream, until_taken
from streamstate import App, ObjectContext, Start, StateKey, VirtualObject, subscribe
from streamstate.engine import EngineOptions
from streamstate.errors import HandlerFault
from streamstate.storage import SqliteStore

KEYS = 5_000
HOT, HOT_SHARE = "hot", 0.01
SLOW_S = 0.02
DRAIN = timedelta(milliseconds=100)  # the hot key's inbox is not worked off: it would take minutes


class Moved(msgspec.Struct):
    """One event."""

    order: str
    metres: int


class Driver(msgspec.Struct):
    """The state of one key."""

    moves: int
    metres: int


DRIVER = StateKey[Driver]("driver")


async def slow() -> None:
    await asyncio.sleep(SLOW_S)


def build(kind: str, stream: Stream) -> App:
    drivers = VirtualObject("Driver")

    @subscribe("moves", start=Start.earliest())
    @drivers.handler
    async def moved(ctx: ObjectContext, move: Moved) -> None:
        if ctx.key == HOT:
            if kind == "paused":
                raise HandlerFault("the benchmark pauses this key")
            await ctx.run("slow", slow)
        driver = await ctx.get(DRIVER) or Driver(0, 0)
        driver.moves += 1
        driver.metres += move.metres
        ctx.set(DRIVER, driver)

    return App([drivers], name="hot", connectors=[stream])


async def handle(kind: str, records: int, directory: Path) -> dict[str, float]:
    dice = random.Random(20)
    keys = [HOT if dice.random() < HOT_SHARE else f"driver-{dice.randrange(KEYS)}" for _ in range(records)]
    if kind == "without":
        keys = [key for key in keys if key != HOT]
    named = [key.encode() for key in keys]
    others = sum(key != HOT for key in keys)
    value = msgspec.json.encode(Moved("o-123456", 17))
    stream = Stream(lambda number: (named[number], value), len(named))
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    async with build(kind, stream).embedded(directory, options=EngineOptions(drain=DRAIN)) as running:
        await until_taken(running, stream)
        elapsed_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    return {"others": others, "others_per_s": others / elapsed_s, "others_cpu_us": cpu_s / others * 1e6}


def durable(directory: Path) -> tuple[int, int]:
    """From the store: the events of the others that took effect, and how many records wait for the hot key."""
    store = SqliteStore.open(directory)
    try:
        states = [store.state("Driver", f"driver-{number}") for number in range(KEYS)]
        moves = sum(msgspec.json.decode(state["driver"], type=Driver).moves for state in states if state)
        return moves, len(store.invocations.lane("Driver", HOT, 0, 1_000_000))
    finally:
        store.close()


def main(kind: str, records: str, directory: str) -> None:
    logging.disable(logging.CRITICAL)  # the pause is meant
    figures = asyncio.run(handle(kind, int(records), Path(directory)))
    moves, waiting = durable(Path(directory))
    report({**figures, "durable": moves, "waiting": waiting})


if __name__ == "__main__":
    main(*sys.argv[1:])
