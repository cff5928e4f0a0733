"""Drivers: each drives where the tasks of his phone send him, and reports every step."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import msgspec

from food_ordering.model import DeliverOrder, DriverTask, DriverUpdate, Location, Progress, ReleaseDriver
from food_ordering.wire import Wire

STEP_S = 0.1
STEP_KM = 0.15
IDLE_REPORT_S = 0.5

_decoder: msgspec.json.Decoder[DriverTask] = msgspec.json.Decoder(DriverTask)


class Drivers:
    """All drivers; they take tasks from `driver-tasks` and report on `driver-updates`."""

    def __init__(self, wire: Wire, seed: int, count: int, regions: Sequence[str]) -> None:
        randomness = random.Random(seed)
        self._tasks = wire.listen("driver-tasks")
        self._drivers = {
            f"driver-{number:03}": Driver(wire, f"driver-{number:03}", regions[number % len(regions)], randomness)
            for number in range(count)
        }

    @property
    def reported(self) -> int:
        """How many updates all drivers have sent."""
        return sum(driver.sequence for driver in self._drivers.values())

    @property
    def busy(self) -> int:
        """How many drivers have work."""
        return sum(driver.is_busy for driver in self._drivers.values())

    def __len__(self) -> int:
        return len(self._drivers)

    async def run(self) -> None:
        """Drive until cancelled."""
        async with asyncio.TaskGroup() as road:
            for driver in self._drivers.values():
                road.create_task(driver.run())
            while True:
                event = await self._tasks.get()
                self._drivers[event.key].take(_decoder.decode(event.value))


class Driver:
    """One driver with his phone."""

    def __init__(self, wire: Wire, driver_id: str, region: str, randomness: random.Random) -> None:
        self._wire = wire
        self._id = driver_id
        self._region = region
        self._random = randomness
        self._location = Location(round(randomness.uniform(-1, 1), 3), round(randomness.uniform(-1, 1), 3))
        self._jobs: asyncio.Queue[DeliverOrder] = asyncio.Queue()
        self._released: set[str] = set()
        self.sequence = 0
        self.is_busy = False

    def take(self, task: DriverTask) -> None:
        """A task has come to the phone."""
        match task:
            case DeliverOrder():
                self._jobs.put_nowait(task)
            case ReleaseDriver(order_id):
                self._released.add(order_id)

    async def run(self) -> None:
        """Say `available`, take the next job, deliver it; for ever."""
        while True:
            self._report(Progress.AVAILABLE)
            job = await self._next_job()
            self.is_busy = True
            await self._deliver(job)
            self.is_busy = False

    async def _next_job(self) -> DeliverOrder:
        while True:
            try:
                return await asyncio.wait_for(self._jobs.get(), IDLE_REPORT_S)
            except TimeoutError:
                self._location = self._location.towards(Location(0, 0), STEP_KM / 10)
                self._report(Progress.DRIVING)

    async def _deliver(self, job: DeliverOrder) -> None:
        if not await self._drive(job.restaurant_at, job.order_id):
            return
        self._report(Progress.PICKED_UP, job.order_id)
        if await self._drive(job.customer_at, job.order_id):
            self._report(Progress.DELIVERED, job.order_id)

    async def _drive(self, goal: Location, order_id: str) -> bool:
        """True on arrival; False when the driver is released from the order on his way."""
        while order_id not in self._released:
            if self._location == goal:
                return True
            await asyncio.sleep(STEP_S)
            self._location = self._location.towards(goal, STEP_KM)
            self._report(Progress.DRIVING, order_id)
        return False

    def _report(self, progress: Progress, order_id: str | None = None) -> None:
        self.sequence += 1
        update = DriverUpdate(self.sequence, self._region, self._location, progress, order_id)
        self._wire.publish("driver-updates", update, key=self._id)
