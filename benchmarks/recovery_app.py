"""The processes of `recovery`: make a directory and wait to be killed, or start on one and handle an event."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import timedelta
from pathlib import Path

from benchmarks._children import report, wait_to_be_killed
from benchmarks._stream import Stream, until_taken
from streamstate import App, ObjectContext, Start, StateKey, VirtualObject, subscribe
from streamstate.storage import SqliteStore

COUNT = StateKey[int]("count", default=0)
REST = timedelta(days=1)

counters = VirtualObject("Counter")
beds = VirtualObject("Bed")


@subscribe("counts", name="counts", start=Start.earliest())
@counters.handler
async def counted(ctx: ObjectContext, amount: int) -> None:
    ctx.set(COUNT, await ctx.get(COUNT) + amount)


@subscribe("bedtime", name="bedtime", start=Start.earliest())
@beds.handler
async def rested(ctx: ObjectContext, amount: int) -> None:
    await ctx.sleep(REST)
    ctx.set(COUNT, amount)


def build(stream: Stream, definitions: list[VirtualObject]) -> App:
    return App(definitions, name="recovery", connectors=[stream])


async def make(content: str, count: int, directory: Path) -> None:
    """Handle so many events, of a key each, that leave a state, or sleep."""
    stream = Stream(lambda number: (b"key-%d" % number, b"1"), count)
    async with build(stream, [counters if content == "keys" else beds]).embedded(directory) as running:
        await until_taken(running, stream)
        await running.engine.idle()
        report({"made": count})
        wait_to_be_killed()


async def restart(content: str, directory: Path) -> dict[str, float]:
    """One event more than there were, on a key of its own; what slept goes on sleeping."""
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    store = SqliteStore.open(directory)
    before = sum(offset for (name, *_), offset in store.positions().items() if name == "counts")
    stream = Stream(lambda _number: (b"first", b"1"), before + 1)
    async with build(stream, [counters] if content == "keys" else [counters, beds]).embedded(store) as running:
        while running.engine.store.state("Counter", "first").get("count") != b"1":  # noqa: ASYNC110 - no event of ours
            await asyncio.sleep(0.001)
        first_event_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        handled = int(running.engine.store.state("Counter", "first")["count"])
    return {"first_event_s": first_event_s, "cpu_s": cpu_s, "handled": handled}


def main(phase: str, content: str, count: str, directory: str) -> None:
    if phase == "restart":
        report(asyncio.run(restart(content, Path(directory))))
    else:
        asyncio.run(make(content, int(count), Path(directory)))


if __name__ == "__main__":
    main(*sys.argv[1:])
