"""One run: topics, traffic, the application's process, and the evidence of what it did."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.brokers import Broker
from tests.durability import gathering
from tests.durability.checker import Evidence, Glimpse
from tests.durability.child import Child
from tests.durability.plan import PARTITIONS, SUBSCRIPTION
from tests.durability.traffic import BURST, Traffic

PROGRESS_S_MAX = 30.0
SETTLE_S_MAX = 60.0
REPORT_S_MAX = 15.0
AFTER_PROGRESS_S_MAX = 1.0  # offsets are reported half a second after they are stored
AFTER_START_S_MAX = 1.0  # opening the store, recovering and connecting take about that long


class Rig:
    """The parts of one run.

    Args:
        beside: reads the same records, with the same traffic.

    Attributes:
        data: the data directory. arguments: those of the application.
        glimpses: the store after each kill.
        recoveries_s: from each start to the first records decided after it.
    """

    def __init__(
        self, broker: Broker, folder: Path, seed: int, *, beside: Rig | None = None, burst: int = BURST
    ) -> None:
        run = uuid.uuid4().hex[:8]
        self._broker = broker
        self._source: str = f"events-{run}" if beside is None else beside._source
        self._target = f"applied-{run}"
        self._group = f"{SUBSCRIPTION}-{self._source}"
        self.data, self._outside = folder / "data", folder / "outside.txt"
        self._random = random.Random(seed)
        if beside is None:
            broker.create_topic(self._source, PARTITIONS)
        broker.create_topic(self._target, PARTITIONS)
        servers = broker.bootstrap_servers
        self.arguments = [servers, str(self.data), self._source, self._target, str(self._outside)]
        self.child = Child(self.arguments, folder / "application.log")
        self.traffic: Traffic = Traffic(servers, self._source, seed, burst) if beside is None else beside.traffic
        self.glimpses: list[Glimpse] = []
        self.recoveries_s: list[float] = []

    @property
    def directory_id(self) -> str:
        with gathering.snapshot(self.data) as store:
            return gathering.directory_id(store)

    def run_until_reported(self) -> None:
        """Until the consumer group's offsets show progress since now."""
        before = self._reported()
        self.child.run_until(lambda: self._reported() != before, "offsets are reported", REPORT_S_MAX)

    def run_until_progress(self) -> None:
        """Until the store shows that records were decided since now."""
        before = self._decided()
        self.child.run_until(lambda: self._decided() > before, "records are decided", PROGRESS_S_MAX)

    def kill_amid_work(self) -> None:
        """Start, and kill at a random point after the first records were decided."""
        self.start_and_recover()
        self.child.run_until(self._has_work, "work is in flight", PROGRESS_S_MAX)
        self.child.run_for(self._random.uniform(0, AFTER_PROGRESS_S_MAX))
        self.kill()

    def kill_amid_outage(self) -> None:
        """Start, and while it works kill the broker and then the application, at random points."""
        self.start_and_recover()
        self._broker.kill()
        try:
            self.child.run_for(self._random.uniform(0, AFTER_PROGRESS_S_MAX))
            self.child.kill()
        finally:
            self._broker.start()
        self._look()

    def kill_after_outage(self) -> None:
        """Start, let the broker die and come back meanwhile, and kill at a random point after work went on."""
        self.start_and_recover()
        self._broker.kill()
        self._broker.start()
        self.run_until_progress()
        self.child.run_for(self._random.uniform(0, AFTER_PROGRESS_S_MAX))
        self.kill()

    def start_and_recover(self) -> None:
        """Start, and wait until records are decided."""
        began = time.monotonic()
        self.child.start()
        self.run_until_progress()
        self.recoveries_s.append(time.monotonic() - began)

    def kill_amid_start(self) -> None:
        """Start, and kill at a random point of the start."""
        self.child.start()
        self.child.run_for(self._random.uniform(0, AFTER_START_S_MAX))
        self.kill()

    def kill(self) -> None:
        """Kill, and look at what that left."""
        self.child.kill()
        if gathering.has_store(self.data):
            self._look()

    def settle(self, within_s: float = SETTLE_S_MAX) -> Evidence:
        """End the traffic, let the application end all of its work and stop in order; then look at everything."""
        self.traffic.finish()
        ends = self.traffic.ends
        self.child.run_until(lambda: gathering.is_settled(self.data, ends), "all work is done", within_s)
        self.child.run_until(lambda: self._reported() == ends, "the end is reported", REPORT_S_MAX)
        self.child.stop()
        self._look()
        published = gathering.published(self._broker, self._target, PARTITIONS)
        return gathering.evidence(self.data, self._outside, published, self.traffic.sent, self.glimpses)

    def _look(self) -> None:
        reported, ends = self._reported(), self.traffic.ends
        self.glimpses.append(gathering.glimpse(self.data, reported, ends))

    def _reported(self) -> dict[int, int]:
        return gathering.reported(self._broker, self._group, self._source, PARTITIONS)

    def _decided(self) -> int:
        if not gathering.has_store(self.data):
            return 0
        with gathering.snapshot(self.data) as store:
            return sum(gathering.positions(store).values())

    def _has_work(self) -> bool:
        with gathering.snapshot(self.data) as store:
            lag = sum(self.traffic.ends.values()) - sum(gathering.positions(store).values())
            return lag > 0 or gathering.count_in(store, gathering.LIVE) > 0


@contextmanager
def running(broker: Broker, folder: Path, seed: int, burst: int = BURST) -> Iterator[Rig]:
    """A rig with its traffic on; nothing is left behind."""
    rig = Rig(broker, folder, seed, burst=burst)
    try:
        with rig.traffic:
            yield rig
    finally:
        rig.child.close()
