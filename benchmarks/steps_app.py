"""The subject of `steps`: one virtual object on the embedded engine, as a user writes it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from benchmarks._children import report
from benchmarks._stream import Stream, until_taken
from benchmarks.steps_workload import SERVICE, STATE, Stopwatch, call_from_all, charge, key_of
from streamstate import App, ObjectContext, Start, StateKey, VirtualObject, subscribe
from streamstate.app import Running
from streamstate.storage import SqliteStore

COUNT = StateKey[int](STATE, default=0)

accounts = VirtualObject(SERVICE)


@subscribe("charges", start=Start.earliest())
@accounts.handler
async def charged(ctx: ObjectContext, amount: int) -> int:
    """One step, one write: the write counts, so that a lost or doubled one is seen."""
    total = await ctx.run("charge", charge, amount)
    ctx.set(COUNT, await ctx.get(COUNT) + 1)
    return total


async def callers(running: Running, keys: int, steps: int) -> dict[str, float]:
    return await call_from_all(keys, steps // keys, lambda key, number: running.client.call(charged, number, key=key))


async def records(running: Running, stream: Stream, keys: int, steps: int) -> dict[str, float]:
    watch = Stopwatch()
    stream.extend(steps // keys * keys)
    await until_taken(running, stream)
    await running.engine.idle()
    return watch.figures(stream.limit)


async def run_load(load: str, keys: int, steps: int, directory: Path) -> dict[str, float]:
    stream = Stream(lambda number: (key_of(number % keys).encode(), b"%d" % number), 0)
    app = App([accounts], name="steps", connectors=[stream])
    async with app.embedded(directory) as running:
        if load == "callers":
            return await callers(running, keys, steps)
        return await records(running, stream, keys, steps)


def durable(directory: Path, keys: int) -> int:
    """How often all states together say that a handler ended."""
    store = SqliteStore.open(directory)
    try:
        return sum(int(store.state(SERVICE, key_of(number)).get(STATE, b"0")) for number in range(keys))
    finally:
        store.close()


def main(load: str, keys: str, steps: str, directory: str) -> None:
    figures = asyncio.run(run_load(load, int(keys), int(steps), Path(directory)))
    report({**figures, "durable": durable(Path(directory), int(keys))})


if __name__ == "__main__":
    main(*sys.argv[1:])
