"""A handler, a step or anything else that keeps the event loop to itself is named, with its stack."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from streamstate import App, Context, ObjectContext, Service, VirtualObject
from streamstate.engine import EngineOptions
from streamstate.storage import MemoryStore

WAIT_S_MAX = 20.0
OPTIONS = EngineOptions(writes_in_thread=False, watchdog=timedelta(milliseconds=20))


class Listener(logging.Handler):
    """Lets go whoever blocks as soon as the watchdog has spoken."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.heard = threading.Event()
        self.over = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self.texts.append(text)
        (self.over if "runs again" in text else self.heard).set()

    def block(self) -> None:
        assert self.heard.wait(WAIT_S_MAX), "the watchdog said nothing"


@pytest.fixture
def listener() -> Iterator[Listener]:
    logger, listener = logging.getLogger("streamstate.engine"), Listener()
    logger.addHandler(listener)
    yield listener
    logger.removeHandler(listener)


async def test_a_handler_that_blocks_is_named_with_its_line_and_what_to_do(listener: Listener) -> None:
    counters = VirtualObject("Counter")

    @counters.handler
    async def slow(ctx: ObjectContext) -> None:
        listener.block()

    async with App([counters], name="tests").embedded(MemoryStore(), options=OPTIONS) as run:
        await run.client.call(slow, key="k")
    assert "Counter/k.slow has it" in listener.texts[0]
    assert "ctx.run" in listener.texts[0]
    assert "in slow\n    listener.block()" in listener.texts[0]


async def test_a_task_of_a_handler_that_blocks_is_named_like_the_handler(listener: Listener) -> None:
    service = Service("Shop")

    async def inner(ctx: Context) -> None:
        listener.block()

    @service.handler
    async def slow(ctx: Context) -> None:
        await asyncio.gather(inner(ctx))

    async with App([service], name="tests").embedded(MemoryStore(), options=OPTIONS) as run:
        await run.client.call(slow)
    assert "Shop.slow has it" in listener.texts[0]
    assert "in inner" in listener.texts[0]


async def test_an_async_step_that_blocks_is_named(listener: Listener) -> None:
    service = Service("Shop")

    async def charge() -> None:
        listener.block()

    @service.handler
    async def pay(ctx: Context) -> None:
        await ctx.run("charge", charge)

    async with App([service], name="tests").embedded(MemoryStore(), options=OPTIONS) as run:
        await run.client.call(pay)
    assert "step 'charge' has it" in listener.texts[0]
    assert "plain function" in listener.texts[0]


async def test_the_application_is_told_apart_and_the_end_is_told_too(listener: Listener) -> None:
    async with App([], name="tests").embedded(MemoryStore(), options=OPTIONS):
        listener.block()
        assert await asyncio.to_thread(listener.over.wait, WAIT_S_MAX)
    assert "the application has it" in listener.texts[0]
    assert "runs again, after" in listener.texts[1]


async def test_a_sync_step_may_block(listener: Listener) -> None:
    service = Service("Shop")
    beats = 0

    def charge() -> None:
        # Longer than the watchdog waits, by its own measure: the loop has shown many signs of life meanwhile.
        while beats < 20:
            enough.wait(0.01)

    @service.handler
    async def pay(ctx: Context) -> None:
        await ctx.run("charge", charge)

    enough = threading.Event()
    async with App([service], name="tests").embedded(MemoryStore(), options=OPTIONS) as run:
        paying = asyncio.create_task(run.client.call(pay))
        while not paying.done():
            beats += 1
            await asyncio.sleep(0.01)
        await paying
    assert [text for text in listener.texts if "step 'charge'" in text] == []


async def test_the_thread_ends_with_the_engine() -> None:
    async with App([], name="tests").embedded(MemoryStore(), options=OPTIONS):
        assert "streamstate-watchdog" in [thread.name for thread in threading.enumerate()]
    assert "streamstate-watchdog" not in [thread.name for thread in threading.enumerate()]
