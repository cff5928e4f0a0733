"""The process of `soak`: every verb at once, on keys that come again and on keys that are seen once."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import apsw

from benchmarks._children import check, memory_mib, report
from benchmarks._measured import WrongResultError
from benchmarks._stream import Stream
from streamstate import App, ObjectContext, Retention, RetryableError, Start, StateKey, VirtualObject, subscribe
from streamstate.app import Running
from streamstate.engine import EngineOptions

KEYS = 2_000
KEYS_IN_MEMORY_MAX = 1_000  # so that the cache is full when the base is taken, and not on its way
RATE_PER_S = 1_000.0
CALLERS = 8
KEPT = timedelta(seconds=5)
PURGED_S = 75.0  # the engine purges once a minute
REST = timedelta(milliseconds=500)
SETTLE_S_MAX = 600.0
TICK_S = 0.1
AHEAD_MAX = 2_000
DATABASE = "streamstate.db"

COUNT = StateKey[int]("count", default=0)

orders = VirtualObject("Order")
stock = VirtualObject("Stock", retention=Retention(idempotency=KEPT))
failed_once: set[str] = set()


@stock.handler
async def taken(ctx: ObjectContext, amount: int) -> int:
    """Called by orders, and from outside with an idempotency key."""
    ctx.set(COUNT, await ctx.get(COUNT) + amount)
    return amount


async def charge(amount: int) -> int:
    await asyncio.sleep(0.005)
    return amount


async def charge_at_the_second_try(invocation: str, amount: int) -> int:
    if invocation not in failed_once:
        failed_once.add(invocation)
        raise RetryableError("the first attempt fails", retry_after=timedelta(milliseconds=50))
    failed_once.discard(invocation)
    return amount


@subscribe("orders", start=Start.earliest())
@orders.handler
async def ordered(ctx: ObjectContext, number: int) -> None:
    """What happens depends on the number, so that every kind goes on all the time."""
    count = await ctx.get(COUNT)
    match number % 20:
        case 0 | 1:
            await ctx.run("charge", charge, number)
        case 2:
            await ctx.run("charge", charge_at_the_second_try, ctx.invocation_id, number)
        case 3:
            await ctx.sleep(REST)
        case 4:
            await ctx.call(taken, 1, key=f"part-{number % 50}")
        case 5:
            ctx.send(taken, 1, key=f"part-{number % 50}", delay=REST)
        case 6:
            ctx.publish("receipts", number, key=ctx.key)
        case 7:
            await asyncio.gather(*(ctx.run(f"part {each}", charge, each) for each in range(3)))
        case 8:
            async with asyncio.timeout(SETTLE_S_MAX):
                await ctx.run("charge", charge, number)
        case _:
            # Plain events, the most common ones.
            count += 0
    if ctx.key.startswith("once-"):
        ctx.clear_all()
    else:
        ctx.set(COUNT, count + 1)


def make(number: int) -> tuple[bytes, bytes]:
    """One record in ten is for a key that is never seen again."""
    key = b"once-%d" % number if number % 10 == 9 else b"order-%d" % (number * 7 % KEYS)
    return key, b"%d" % (number // 10)


async def calls(running: Running, until_s: float, number: int) -> int:
    """One caller from outside: each call twice with the same idempotency key."""
    count = 0
    while time.monotonic() < until_s:
        key = f"caller-{number}-{count}-{until_s}"
        for _ in range(2):
            await running.client.call(taken, 1, key=f"part-{count % 50}", idempotency_key=key)
        count += 1
        await asyncio.sleep(0.02)
    return count


async def load(running: Running, stream: Stream, seconds: float) -> int:
    """Put on load for so long, then wait until everything has ended; how many calls there were."""
    until_s = time.monotonic() + seconds
    callers = [asyncio.create_task(calls(running, until_s, number)) for number in range(CALLERS)]
    while time.monotonic() < until_s:
        # At this rate, but not further ahead than the machine can follow.
        if stream.limit - taken_so_far(running) < AHEAD_MAX:
            stream.extend(stream.limit + round(RATE_PER_S * TICK_S))
        await asyncio.sleep(TICK_S)
    made = sum(await asyncio.gather(*callers))
    deadline_s = time.monotonic() + SETTLE_S_MAX
    while taken_so_far(running) < stream.limit or running.engine.core.live:
        if time.monotonic() > deadline_s:
            raise WrongResultError(f"after {SETTLE_S_MAX} s: {taken_so_far(running):,} of {stream.limit:,} records")
        await asyncio.sleep(TICK_S)
    await asyncio.sleep(PURGED_S)
    await running.engine.idle()
    return made


def taken_so_far(running: Running) -> int:
    return sum(running.engine.store.positions().values())


def sample(directory: Path) -> dict[str, float]:
    """What is in use now."""
    gc.collect()
    connection = apsw.Connection(str(directory / DATABASE), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        pages, free, size = (connection.pragma(name) for name in ("page_count", "freelist_count", "page_size"))
        tables = ("invocations", "journal", "timers", "waiters", "promises", "outbox")
        rows = sum(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in tables)  # type: ignore[misc]  # counts are numbers
    finally:
        connection.close()
    return {
        "rss_mib": memory_mib(),
        "live_rows": rows,
        "database_used_mib": (pages - free) * size / 2**20,
        "disk_mib": sum(each.stat().st_size for each in directory.iterdir()) / 2**20,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "objects": len(gc.get_objects()),
    }


async def soak(minutes: float, directory: Path) -> dict[str, float]:
    stream = Stream(make, 0)
    app = App([orders, stock], name="soak", connectors=[stream])
    figures: dict[str, float] = {}
    async with app.embedded(directory, options=EngineOptions(keys_in_memory_max=KEYS_IN_MEMORY_MAX)) as running:
        made = await load(running, stream, minutes * 60 / 4)
        figures |= {f"base_{name}": value for name, value in sample(directory).items()}
        began_s, before = time.monotonic(), stream.limit
        seconds = minutes * 60 * 3 / 4
        made += await load(running, stream, seconds)
        figures["events_per_s"] = (stream.limit - before) / (time.monotonic() - began_s - PURGED_S)
        figures |= {f"end_{name}": value for name, value in sample(directory).items()}
        check("the sum of all counts", outcome(running), expected(stream.limit, made))
        check("messages published", stream.published, sum(kind_of(number) == 6 for number in range(stream.limit)))
    return figures


def kind_of(number: int) -> int:
    return number // 10 % 20


def expected(records: int, made: int) -> int:
    """The sum of all counts: of orders that keep their state, of parts taken by orders, of parts taken by callers."""
    kept = sum(number % 10 != 9 for number in range(records))
    parts = sum(kind_of(number) in (4, 5) for number in range(records))
    return kept + parts + made


def outcome(running: Running) -> int:
    """The same sum, from the store."""
    store = running.engine.store
    idents = [("Order", f"order-{number}") for number in range(KEYS)] + [
        ("Stock", f"part-{each}") for each in range(50)
    ]
    return sum(int(store.state(*ident).get("count", b"0")) for ident in idents)


def main(minutes: str, directory: str) -> None:
    logging.disable(logging.WARNING)  # of attempts that are meant to fail
    report(asyncio.run(soak(float(minutes), Path(directory))))


if __name__ == "__main__":
    main(*sys.argv[1:])
