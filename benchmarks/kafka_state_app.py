"""The subject of `kafka_state`: one virtual object on the embedded engine, as a user writes it."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks._measured import Measured
from benchmarks.kafka_state_workload import CLIENT_OPTIONS, KEYS, Driver, Moved, after
from streamstate import App, ObjectContext, Start, StateKey, VirtualObject, subscribe
from streamstate.storage import SqliteStore
from streamstate_kafka import Kafka

DRIVER = StateKey[Driver]("driver")
POLL_S = 0.002  # how late the end may be seen; a run takes more than a second


@dataclass(slots=True)
class Progress:
    """What the handler has seen in this process; says when to stop, not what is durable."""

    started: float = 0.0
    moves: int = 0


def build(bootstrap_servers: str, topic: str, client: str, progress: Progress) -> App:
    drivers = VirtualObject("Driver")

    @subscribe(topic, start=Start.earliest())
    @drivers.handler
    async def moved(ctx: ObjectContext, move: Moved) -> None:
        if not progress.moves:
            progress.started = time.perf_counter()
        progress.moves += 1
        ctx.set(DRIVER, after(await ctx.get(DRIVER), move))

    kafka = Kafka(bootstrap_servers, options=CLIENT_OPTIONS[client], client=client)
    return App([drivers], name="kafka-state", connectors=[kafka])


async def run_subject(bootstrap_servers: str, topic: str, records: int, client: str, directory: Path) -> float:
    """Events per second from the first record handled to the last commit done.

    The end is taken when everything is durable, as the baseline's is after its last commit.
    """
    progress = Progress()
    app = build(bootstrap_servers, topic, client, progress)
    # Each run has a directory of its own, and the group of the run before.
    async with app.embedded(directory, take_over=True) as running:
        while progress.moves < records:  # noqa: ASYNC110 - an event of this loop is not for handlers to set
            await asyncio.sleep(POLL_S)
        await running.engine.idle()
        ended = time.perf_counter()
    return records / (ended - progress.started)


def totals(directory: Path) -> dict[str, int]:
    """What is durable, added up: read from the store after the engine has closed it."""
    store = SqliteStore.open(directory)
    try:
        states = [store.state("Driver", f"driver-{number}") for number in range(KEYS)]
    finally:
        store.close()
    drivers = [msgspec.json.decode(state["driver"], type=Driver) for state in states if state]
    return {"moves": sum(driver.moves for driver in drivers), "metres": sum(driver.metres for driver in drivers)}


def main(bootstrap_servers: str, topic: str, records: str, client: str, directory: str) -> None:
    events_per_s = asyncio.run(run_subject(bootstrap_servers, topic, int(records), client, Path(directory)))
    print(msgspec.json.encode(Measured(events_per_s, totals(Path(directory)))).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
