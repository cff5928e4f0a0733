"""A program for test_hostile_poison: counts records, and one of its invocations kills the process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import msgspec

from streamstate import App, ObjectContext, StateKey, VirtualObject, subscribe
from streamstate.engine import EngineOptions
from streamstate.storage import SqliteStore
from streamstate.testing import MemoryTopics

KEYS, ROUNDS, POISONED = 5, 20, (3, 7)  # the key, and how many of its records come before the poison
TOTAL = StateKey[int]("total", default=0)
WAIT_S_MAX = 30.0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def build(poison: str, topics: MemoryTopics) -> App:
    counters = VirtualObject("Counter")

    @subscribe("events")
    @counters.handler
    async def count(ctx: ObjectContext, number: int) -> None:
        is_poison = (int(ctx.key[1:]), number) == POISONED
        if is_poison and poison == "record":
            die()
        if is_poison and poison == "step":
            await ctx.run("die", die)
        if is_poison and poison == "timer":
            await ctx.sleep(timedelta(milliseconds=20))
            die()
        ctx.set(TOTAL, await ctx.get(TOTAL) + 1)

    return App([counters], name="poisoned", connectors=[topics])


async def main(directory: str, poison: str) -> None:
    topics = MemoryTopics()
    for number in range(ROUNDS):
        for key in range(KEYS):
            topics.append("events", f"k{key}".encode(), msgspec.json.encode(number))
    app = build(poison, topics)
    keys = [f"k{key}" for key in range(KEYS)]
    expected = dict.fromkeys(keys, ROUNDS)
    if poison != "none":
        expected[f"k{POISONED[0]}"] = POISONED[1]
    async with asyncio.timeout(WAIT_S_MAX), app.embedded(Path(directory), options=EngineOptions(watchdog=None)) as run:
        while True:
            totals = {key: int(run.engine.object_state("Counter", key).get("total", b"0")) for key in keys}
            is_paused = poison == "none" or any(run.engine.core.live[name].row.failure for name in run.engine.core.live)
            if totals == expected and topics.is_drained(()) and run.engine.is_idle and is_paused:
                break
            await asyncio.sleep(0.005)
    store = SqliteStore.open(Path(directory))
    rows = [row for key in keys for row in store.invocations.lane("Counter", key, 0, 1)]
    store.close()
    told = {
        "totals": totals,
        "paused": [row.id for row in rows],
        "messages": [row.failure.message for row in rows if row.failure is not None],
    }
    sys.stdout.buffer.write(msgspec.json.encode(told))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
