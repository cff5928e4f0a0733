"""The demo: the application in a process of its own, the world around it in this one, a checker at the end.

The broker and the simulators live here and go on while the worker is killed and started again.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from confluent_kafka import KafkaException
from rich.console import Console

from food_ordering import topics
from food_ordering.bank import read_books
from food_ordering.checker import Check, check, collect
from food_ordering.display import Snapshot, display, show_checks, show_summary
from food_ordering.simulators import Customers, Drivers, Restaurants
from food_ordering.supervisor import Worker, WorkerDied, WorkerPlace
from food_ordering.wire import Wire, create_topics, read_to_end, remove_topics
from streamstate.errors import SourceError, StreamstateError
from streamstate_kafka.testing import MockCluster

REGIONS = ("north", "south")
STALL_S_MAX = 30.0
LOOK_S = 0.05
SHOW_S = 0.2
UPDATES_BETWEEN_KILLS = (30, 200)


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to play.

    Attributes:
        orders, drivers: how many of each.
        rate: orders placed a second.
        kafka: `host:port` of a real broker; None is a cluster inside this process.
        keep: go on with new orders until Ctrl-C, and leave the data directory.
        chaos: kill the worker `kills` times on the way.
        seed: of everything random in the world; not of when things happen.
    """

    orders: int = 100
    drivers: int = 24
    rate: float = 4.0
    kafka: str | None = None
    keep: bool = False
    chaos: bool = False
    kills: int = 5
    seed: int = 1


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came of it.

    Attributes:
        folder: the data directory, the bank's books and the worker's log, where they were left; None if cleaned up.
    """

    checks: tuple[Check, ...]
    kills: int
    elapsed_s: float
    folder: Path | None

    @property
    def is_kept(self) -> bool:
        """True when every promise was kept."""
        return all(check.is_kept for check in self.checks)


class DemoStalled(StreamstateError):
    """Nothing happens any more, and not everything has happened."""


class World:
    """Everything around the application, on one wire.

    Attributes:
        applied: how many location updates the application has answered.
    """

    def __init__(self, wire: Wire, options: DemoOptions) -> None:
        self.wire = wire
        self.customers = Customers(wire, options.seed, REGIONS)
        self.restaurants = Restaurants(wire, options.seed)
        self.drivers = Drivers(wire, options.seed, options.drivers, REGIONS)
        self._positions = wire.listen("driver-positions")
        self.applied = 0

    async def count_positions(self) -> None:
        while True:
            await self._positions.get()
            self.applied += 1

    def has_seen(self, orders: int, updates: int, last_call: asyncio.Event) -> bool:
        """True when so many orders were placed and so many updates applied, or no more will come."""
        return last_call.is_set() or (self.customers.placed >= orders and self.applied >= updates)

    def is_decided(self) -> bool:
        return self.customers.undecided == 0

    def is_applied(self) -> bool:
        return self.applied >= self.drivers.reported

    def updates_applied(self) -> int:
        return self.applied

    def changes_seen(self) -> int:
        return self.customers.changes_seen


async def run_demo(options: DemoOptions, console: Console | None = None) -> DemoResult:
    """Play it, check it, and say what was found.

    Raises:
        SourceError: the broker given does not answer, or refuses what the demo needs of it.
    """
    console = console or Console()
    with _kafka_faults(options.kafka), _cluster(options.kafka) as (bootstrap, prefix):
        console.print(_introduction(options), soft_wrap=True, highlight=False)
        place = WorkerPlace(bootstrap, prefix, Path(tempfile.mkdtemp(prefix="food-ordering-")))
        is_clean = False
        try:
            worker = Worker(place)
            began_s = time.monotonic()
            end = await _play_to_the_end(options, World(Wire(bootstrap, prefix), options), worker, console)
            elapsed_s = time.monotonic() - began_s
            events = await asyncio.to_thread(read_to_end, bootstrap, _topics(prefix))
            named = (event._replace(topic=event.topic.removeprefix(prefix)) for event in events)
            checks = (end, *check(collect(named, read_books(place.books))))
            show_checks(console, checks)
            is_clean = all(found.is_kept for found in checks) and not options.keep
            show_summary(console, checks, elapsed_s, is_clean and not options.chaos)
        finally:
            if is_clean:
                _clean_up(place, console)
            else:
                console.print(_what_is_left(place, options), soft_wrap=True, highlight=False)
    return DemoResult(checks, worker.kills, elapsed_s, None if is_clean else place.folder)


@contextmanager
def _kafka_faults(kafka: str | None) -> Iterator[None]:
    """Tell what the client library raises as what it is for the user."""
    try:
        yield
    except (KafkaException, TimeoutError) as error:
        where = "inside this process" if kafka is None else f"at {kafka}"
        remedy = (
            "" if kafka is None else "; check the address, or leave --kafka out: the demo brings a cluster of its own"
        )
        raise SourceError(f"the demo cannot use Kafka {where}: {_reason(error)}{remedy}") from error


def _reason(error: KafkaException | TimeoutError) -> str:
    return error.args[0].str() if isinstance(error, KafkaException) else str(error)


@contextmanager
def _cluster(kafka: str | None) -> Iterator[tuple[str, str]]:
    """The broker's address and the prefix of the topics, which are there."""
    if kafka is not None:
        # A prefix of its own: the topics of other programs, and of other demos, are not for this one.
        prefix = f"demo-{uuid.uuid4().hex[:8]}."
        create_topics(kafka, _topics(prefix))
        yield kafka, prefix
        return
    with MockCluster() as cluster:
        cluster.create_topics(*_topics(""))
        yield cluster.bootstrap_servers, ""


def _topics(prefix: str) -> list[str]:
    return [f"{prefix}{topic.name}" for topic in topics.ALL]


def _introduction(options: DemoOptions) -> str:
    orders = "orders until Ctrl-C" if options.keep else f"{options.orders} orders"
    cluster = "a cluster inside this process" if options.kafka is None else options.kafka
    chaos = f", killed {options.kills} times on the way" if options.chaos else ""
    return (
        f"food ordering: {orders}, {options.drivers} drivers\nKafka: {cluster}\napplication: a worker process{chaos}\n"
    )


def _clean_up(place: WorkerPlace, console: Console) -> None:
    shutil.rmtree(place.folder)
    if place.prefix:
        try:
            remove_topics(place.bootstrap, _topics(place.prefix))
        except KafkaException as error:
            console.print(f"the topics {place.prefix}* are still there: {_reason(error)}", soft_wrap=True)


def _what_is_left(place: WorkerPlace, options: DemoOptions) -> str:
    left = f"data directory, books and log of the worker: {place.folder}"
    return left if options.kafka is None else f"{left}\ntopics on {options.kafka}: {place.prefix}*"


async def _play_to_the_end(options: DemoOptions, world: World, worker: Worker, console: Console) -> Check:
    """Play; an application that stands still or ends is not an error of the demo, but a promise broken."""
    fault = ""
    try:
        await _play(options, world, worker, console)
    except (DemoStalled, WorkerDied) as end:
        fault = str(end)
    repeated = f"{world.wire.repeated} messages came again, under their old id"
    seen = f"killed {worker.kills} times; {repeated}" if worker.kills else "it was not killed"
    return Check("the application goes on after every crash", seen, (fault,) if fault else ())


async def _play(options: DemoOptions, world: World, worker: Worker, console: Console) -> None:
    """From the first order to the last decision."""
    last_call = asyncio.Event()
    try:
        async with _ctrl_c(last_call if options.keep else None), asyncio.TaskGroup() as group:
            await worker.start()
            around = [
                group.create_task(part)
                for part in (
                    world.wire.run(),
                    world.restaurants.run(),
                    world.customers.watch(),
                    world.count_positions(),
                    worker.watch(),
                    _show(options, world, worker, console),
                )
            ]
            driving = group.create_task(world.drivers.run())
            killing = group.create_task(_kill(options, world, worker, last_call))
            await _place(options, world, last_call)
            await killing
            await _until(world.is_decided, world.changes_seen, "orders are undecided")
            driving.cancel()
            await world.wire.flush()
            await _until(world.is_applied, world.updates_applied, "location updates are not applied")
            for task in around:
                task.cancel()
    except ExceptionGroup as group_error:
        # The first thing that went wrong; the others follow from it.
        raise group_error.exceptions[0] from None
    finally:
        await worker.stop()


async def _place(options: DemoOptions, world: World, last_call: asyncio.Event) -> None:
    if not options.keep:
        await world.customers.place(options.orders, options.rate)
        return
    async with asyncio.TaskGroup() as group:
        placing = group.create_task(world.customers.place(None, options.rate))
        await last_call.wait()
        placing.cancel()


async def _until(condition: Callable[[], bool], progress: Callable[[], int], otherwise: str) -> None:
    """Wait for the condition, as long as there is progress towards it."""
    seen, deadline_s = progress(), time.monotonic() + STALL_S_MAX
    while not condition():
        await asyncio.sleep(LOOK_S)  # the condition is about three processes; there is no one event to wait for
        if progress() != seen:
            seen, deadline_s = progress(), time.monotonic() + STALL_S_MAX
        elif time.monotonic() > deadline_s:
            raise DemoStalled(f"nothing has happened for {STALL_S_MAX:.0f} s, and {otherwise}; see the worker's log")


async def _kill(options: DemoOptions, world: World, worker: Worker, last_call: asyncio.Event) -> None:
    """Kill the worker in the middle of its work, spread over the time in which orders are placed."""
    moments = random.Random(options.seed)
    for number in range(1, options.kills + 1 if options.chaos else 1):
        orders = options.orders * number // (options.kills + 1)
        updates = world.applied + moments.randint(*UPDATES_BETWEEN_KILLS)
        await _until(
            partial(world.has_seen, orders, updates, last_call), world.updates_applied, f"kill {number} is to come"
        )
        if last_call.is_set():
            return
        await worker.kill()
        await worker.start()


async def _show(options: DemoOptions, world: World, worker: Worker, console: Console) -> None:
    began_s = time.monotonic()

    def now() -> Snapshot:
        return Snapshot(
            elapsed_s=time.monotonic() - began_s,
            orders=None if options.keep else options.orders,
            placed=world.customers.placed,
            drivers=len(world.drivers),
            drivers_busy=world.drivers.busy,
            updates_sent=world.drivers.reported,
            updates_applied=world.applied,
            kills=worker.kills,
            repeated=world.wire.repeated,
            by_status=world.customers.by_status,
        )

    with display(console) as shown:
        try:
            while True:
                shown.show(now())
                await asyncio.sleep(SHOW_S)
        finally:
            shown.end(now())


@asynccontextmanager
async def _ctrl_c(last_call: asyncio.Event | None) -> AsyncIterator[None]:
    """The first Ctrl-C is the last call for orders; the second one ends the demo as usual."""
    if last_call is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def call() -> None:
        last_call.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, call)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
