"""The application under test, a process of its own: `python -m tests.durability.application --help`.

Every event goes into the state of its key and out to a topic; some also run a step, rest, remind another object
later, or call one. What each leaves behind tells a checker how often it took effect.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec

from streamstate import App, ObjectContext, StateKey, Topic, VirtualObject, subscribe
from streamstate.errors import StreamstateError
from streamstate_kafka import Kafka
from tests.durability.plan import (
    REMIND_AFTER_MS,
    REST_MS,
    SUBSCRIPTION,
    TELLERS,
    has_call,
    has_reminder,
    has_rest,
    has_step,
)

# After an outage of the broker librdkafka would wait up to ten seconds before it looks again.
PROMPT = {"reconnect.backoff.max.ms": "500"}


class Event(msgspec.Struct):
    """The input; sequence counts from 1 for each key."""

    sequence: int


class Book(msgspec.Struct):
    """The state of one key: how many events, the last one, and a digest over all of them in their order."""

    count: int = 0
    last: int = 0
    digest: str = ""


class Reminder(msgspec.Struct):
    sequence: int
    due_ms: int


class Enquiry(msgspec.Struct):
    ledger: str
    sequence: int
    stamp: str


class Applied(msgspec.Struct):
    """The output: one for each event."""

    sequence: int
    digest: str
    stamp: str


BOOK = StateKey[Book]("book", default=Book())
ARRIVED = StateKey[list[tuple[int, int]]]("arrived", default=[])
RESTED = StateKey[list[int]]("rested", default=[])
HEARD = StateKey[list[tuple[int, int]]]("heard", default=[])
ANSWERS = StateKey[int]("answers", default=0)


def applied_to(book: Book, sequence: int) -> Book:
    digest = hashlib.sha256(f"{book.digest}/{sequence}".encode()).hexdigest()
    return Book(book.count + 1, sequence, digest)


def stamping(outside: Path) -> Callable[[str, str, int], str]:
    """The steps' action: leaves a line in the world outside, durable before it returns."""

    def stamp(step: str, key: str, sequence: int) -> str:
        text = f"stamp-{uuid.uuid4().hex}"
        file = os.open(outside, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, f"{step} {key} {sequence} {os.getpid()} {time.time_ns() // 1_000_000} {text}\n".encode())
            os.fsync(file)
        finally:
            os.close(file)
        return text

    return stamp


def build_app(servers: str, source: str, target: str, outside: Path) -> App:
    """The program, reading topic `source` and publishing to topic `target`."""
    ledgers, reminders, tellers = VirtualObject("Ledger"), VirtualObject("Reminders"), VirtualObject("Teller")
    output = Topic[Applied](target)
    stamp = stamping(outside)

    @reminders.handler
    async def remind(ctx: ObjectContext, reminder: Reminder) -> None:
        now_ms = int((await ctx.time()).timestamp() * 1000)
        arrived = await ctx.get(ARRIVED)
        ctx.set(ARRIVED, [*arrived, (reminder.sequence, now_ms - reminder.due_ms)])

    @tellers.handler
    async def answer(ctx: ObjectContext, enquiry: Enquiry) -> int:
        answered: StateKey[list[tuple[int, str, int]]] = StateKey(enquiry.ledger)
        before = await ctx.get(answered) or []
        number = await ctx.get(ANSWERS) + 1
        ctx.set(ANSWERS, number)
        ctx.set(answered, [*before, (enquiry.sequence, enquiry.stamp, number)])
        return number

    @subscribe(source, name=f"{SUBSCRIPTION}-{source}")
    @ledgers.handler
    async def enter(ctx: ObjectContext, event: Event) -> None:
        sequence = event.sequence
        # Before anything that waits: an attempt that started anew instead of replaying would apply it twice.
        book = applied_to(await ctx.get(BOOK), sequence)
        ctx.set(BOOK, book)
        text = ""
        if has_step(sequence):
            text = await ctx.run("stamp", stamp, "stamp", ctx.key, sequence)
            ctx.set(f"stamp-{sequence}", text)
        if has_rest(sequence):
            await ctx.sleep(timedelta(milliseconds=REST_MS))
            ctx.set(RESTED, [*await ctx.get(RESTED), sequence])
            ctx.set(f"wake-{sequence}", await ctx.run("wake", stamp, "wake", ctx.key, sequence))
        if has_call(sequence):
            number = await ctx.call(answer, Enquiry(ctx.key, sequence, text), key=f"teller-{sequence % TELLERS}")
            ctx.set(HEARD, [*await ctx.get(HEARD), (sequence, number)])
        if has_reminder(sequence):
            due_ms = int((await ctx.time()).timestamp() * 1000) + REMIND_AFTER_MS
            ctx.send(remind, Reminder(sequence, due_ms), key=ctx.key, delay=timedelta(milliseconds=REMIND_AFTER_MS))
        ctx.publish(output, Applied(sequence, book.digest, text), key=ctx.key)

    return App([ledgers, reminders, tellers], name="durability", connectors=[Kafka(servers, options=PROMPT)])


async def serve(app: App, data: Path, *, take_over: bool) -> None:
    """Run until SIGTERM, or until the engine fails."""
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    async with app.embedded(data, take_over=take_over) as running:
        stop, failure = asyncio.create_task(terminated.wait()), asyncio.create_task(running.failed())
        await asyncio.wait({stop, failure}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if failure.done():
            failure.result()
        failure.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.durability.application", description=__doc__)
    parser.add_argument("bootstrap", help="host:port of the Kafka cluster")
    parser.add_argument("data", type=Path, help="the data directory")
    parser.add_argument("source", help="the topic to read")
    parser.add_argument("target", help="the topic to publish to")
    parser.add_argument("outside", type=Path, help="the file to which steps append a line")
    parser.add_argument("--take-over", action="store_true", help="from whatever other data directory was there before")
    given = parser.parse_args()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    app = build_app(given.bootstrap, given.source, given.target, given.outside)
    try:
        asyncio.run(serve(app, given.data, take_over=given.take_over))
    except StreamstateError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    """The test holds the other end of stdin; however it ends, no orphan stays behind."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
