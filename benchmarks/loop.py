"""`loop`: an invocation on the handler's loop against a bare coroutine that does the same; no broker, no disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator

from benchmarks._comparison import Options, Result, compare, take_turns
from streamstate import App, Context, Service, subscribe
from streamstate.definitions import Record
from streamstate.engine import Engine, EngineOptions
from streamstate.storage import MemoryStore

INVOCATIONS = 100_000
GOAL = 0.05  # a bare coroutine costs a quarter of a microsecond; an invocation may cost five
CHUNK = 500


async def bare(_context: object, _payload: bytes) -> None:
    """What the handler does."""


def coroutines_per_s() -> float:
    """The baseline: made, and run to its end."""

    def drive(coroutine: Coroutine[object, None, None]) -> None:
        try:
            coroutine.send(None)
        except StopIteration:
            return

    started = time.perf_counter()
    for _ in range(INVOCATIONS):
        drive(bare(None, b""))
    return INVOCATIONS / (time.perf_counter() - started)


def build() -> App:
    service = Service("Nothing")

    @subscribe("nothing")
    @service.handler
    async def handle(_ctx: Context, _payload: bytes) -> None:
        """Ends in its first turn."""

    return App([service], name="loop")


async def invocations_per_s() -> float:
    """The subject: records in memory, each an invocation with context, task and loop, decided and committed."""
    app = build()
    engine = Engine(app.program, MemoryStore(), options=EngineOptions(writes_in_thread=False), sinks={})
    await engine.start()
    intake = engine.intake(app.program.subscriptions[0])
    records = [Record("nothing", 0, offset, 0, None, b"") for offset in range(INVOCATIONS)]
    started = time.perf_counter()
    for first in range(0, INVOCATIONS, CHUNK):
        intake.take(records[first : first + CHUNK], {})
        engine.pump()
    await engine.idle()
    measured = INVOCATIONS / (time.perf_counter() - started)
    await engine.stop()
    return measured


def measure(options: Options) -> Iterator[Result]:
    """Both in this process, in turns."""
    turns = take_turns(
        baseline=coroutines_per_s, subject=lambda: asyncio.run(invocations_per_s()), repetitions=options.repetitions
    )
    yield compare("loop", "invocations/s", GOAL, turns)
