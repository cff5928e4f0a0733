"""One process of the program: its ports, each of which can be the last thing that it touched.

P1  A crash severs everything at one instant: from then on the store takes and gives nothing, no message or position
    leaves, no action has an effect, no caller hears anything. What is torn down afterwards reaches nobody.
P2  What happens at the ports is numbered, and is the same in every run up to the crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor, Future
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple, NoReturn, ParamSpec, TypeVar

from streamstate import Running
from streamstate.definitions import SubscriptionSpec
from streamstate.engine import OutboxMessage
from streamstate.errors import StreamstateError
from streamstate.ingress import Connector, PartitionId, Records, Source, SourceStopped
from streamstate.storage import Batch, Store
from streamstate.testing import MemoryTopics, VirtualClock
from tests.crashes.disks import Disk
from tests.crashes.witness import CLUSTER, Witness

P = ParamSpec("P")
T = TypeVar("T")

QUIET_ROUNDS = 4  # of the loop, in which nothing happens: callers that have just been answered ask again by then
WRITE_ROUNDS = 6  # of the loop, while a batch is on its way to the disk: enough for a step to end and a turn to follow
PUBLISH_ROUNDS = 10  # while a message is on its way to its topic: longer than a commit takes


class Moment(Enum):
    BEFORE = "before"
    MIDDLE = "middle"
    AFTER = "after"


class Event(NamedTuple):
    """Something that happened at a port. `statements`: of a commit."""

    kind: str
    what: str
    statements: int = 0


class CrashPoint(NamedTuple):
    """A place in the life of a process. `statement`: of the transaction, for the middle of a commit."""

    event: int
    moment: Moment
    statement: int = 0


class SkippingClock(VirtualClock):
    """One that can also be moved while a step runs, when nothing is idle."""

    def skip(self, until_ms: int) -> None:
        """Let time pass up to this moment, or to the first timer before it."""
        wake_ms, callback = self._wake_ms, self._callback
        if wake_ms is None or callback is None or wake_ms > until_ms:
            self._now_ms = until_ms
            return
        self._now_ms, self._wake_ms = max(self._now_ms, wake_ms), None
        callback()


class ProcessDied(StreamstateError):  # what the outside sees, not an error
    """The process is no more."""


class Process:
    """See the module.

    Attributes:
        events: what happened at the ports.
        is_alive: it has neither crashed nor been stopped. has_crashed: it ended by its crash point.
        ready: it can be asked. over: it is to end, or has crashed. gone: it has ended, and nothing of it is left.

    Args:
        point: where it crashes; None for one that does not.
        crashes: is told when it does, with what the commit had that it was at.
    """

    def __init__(
        self,
        witness: Witness,
        disk: Disk,
        now: datetime,
        point: CrashPoint | None,
        crashes: Callable[[Process, str], None],
    ) -> None:
        self.witness = witness
        self.disk = disk
        self.point = point
        self._crashes = crashes
        self._committing = ""
        self.clock = SkippingClock(now)
        self.events: list[Event] = []
        self.problems: list[str] = []
        self.is_alive = True
        self.has_crashed = False
        self.over = asyncio.Event()
        self.gone = asyncio.Event()
        self.ready = asyncio.Event()
        self.running: Running
        self.topics: ProcessTopics
        self.clock.attach(self.idle)

    def happened(self, event: Event) -> None:
        """Take note, and crash if this was the place."""
        self.check()
        self.events.append(event)
        if self.point is not None and self.point[:2] == (len(self.events) - 1, Moment.AFTER):
            self.crash()

    def check(self) -> None:
        """P1: nothing goes through a port of a process that is no more."""
        if not self.is_alive:
            raise ProcessDied

    def crash(self) -> NoReturn:
        assert self.is_alive, "it has crashed before"
        self._crashes(self, self._committing)
        self.is_alive, self.has_crashed = False, True
        self.disk.freeze()
        self.over.set()
        if self.ready.is_set():
            self.running.engine.fail(ProcessDied())
        raise ProcessDied

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Work of a caller that ends with this process.

        Raises:
            ProcessDied: the process is no more.
        """
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (task, gone):
                each.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)
        self.check()
        return task.result()

    async def idle(self) -> None:
        """Wait until nothing is runnable, and nobody outside has anything to do."""
        engine, quiet = self.running.engine, 0
        while quiet < QUIET_ROUNDS:
            await engine.idle()
            await asyncio.sleep(0)
            quiet = quiet + 1 if engine.is_idle and self.topics.is_drained else 0

    def commit(self, batch: Batch) -> None:
        """Commit, or crash in front of it, in its middle, or right after it."""
        self.check()
        point, self._committing = self.point, _sizes(batch)
        if point is not None and point.event == len(self.events):
            if point.moment is Moment.BEFORE:
                self.crash()
            if point.moment is Moment.MIDDLE:
                self.disk.commit_partly(batch, point.statement, self.crash)
                raise AssertionError(f"a transaction has no statement {point.statement}")
        self.disk.commit(batch)
        self.witness.saw(batch)
        self.happened(Event("commit", self._committing, self.disk.statements))
        self._committing = ""


class ProcessStore:
    """The store, as one process has it: whatever it is asked, a dead process is not answered."""

    def __init__(self, process: Process, store: Store) -> None:
        self._process = process
        self._store = store

    def __getattr__(self, name: str) -> Any:
        self._process.check()
        return getattr(self._store, name)

    def commit(self, batch: Batch) -> None:
        self._process.commit(batch)

    def close(self) -> None:
        self._store.close()


class ProcessTopics:
    """The cluster, as one process has it: a connector over topics that outlive the process."""

    def __init__(self, process: Process, topics: MemoryTopics, delivered: Callable[[OutboxMessage], None]) -> None:
        self.name = CLUSTER
        self._process = process
        self._connector: Connector = topics
        self._delivered = delivered
        self._sources: list[Source] = []
        process.topics = self

    @property
    def is_drained(self) -> bool:
        feeds = self._process.running.feeds
        stopped = {name for name, feed in feeds.items() if feed.error is not None}
        return all(source.is_drained or source.name in stopped for source in self._sources)  # type: ignore[attr-defined]  # a MemorySource

    def source(self, subscription: SubscriptionSpec) -> Source:
        source = self._connector.source(subscription)
        self._sources.append(source)
        return ProcessSource(self._process, subscription.name, source)

    def sink(self) -> ProcessSink:
        return ProcessSink(self._process, self._connector, self._delivered)

    def redacted_options(self) -> Mapping[str, str]:
        return {}

    async def check(self, topics: Sequence[str]) -> list[str]:
        return []


class ProcessSource:
    """A subscription's records, and the reports of its positions."""

    def __init__(self, process: Process, name: str, source: Source) -> None:
        self._process = process
        self._name = name
        self._source = source

    async def open(self, positions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        self._process.check()
        return await self._source.open(positions)

    async def poll(self) -> Records | SourceStopped:
        found = await self._source.poll()
        self._process.check()
        return found

    def report(self, positions: Mapping[PartitionId, int]) -> None:
        process = self._process
        process.check()
        for each, offset in positions.items():
            place = (self._name, each.topic, each.topic_id, each.partition)
            process.problems += process.witness.position_leaves(place, offset)
        process.happened(Event("report", f"{self._name} {sorted(positions.values())}"))

    async def close(self) -> None:
        await self._source.close()


class ProcessSink:
    """Messages leave one by one, slowly; a crash may be between any two, before the engine hears of either."""

    def __init__(self, process: Process, connector: Connector, delivered: Callable[[OutboxMessage], None]) -> None:
        self._process = process
        self._sink = connector.sink()
        self._delivered = delivered

    async def open(self) -> None:
        await self._sink.open()

    async def publish(self, messages: Sequence[OutboxMessage]) -> None:
        process = self._process
        for message in messages:
            for _ in range(PUBLISH_ROUNDS):
                await asyncio.sleep(0)
            process.check()
            process.problems += process.witness.message_leaves(message)
            await self._sink.publish([message])
            self._delivered(message)
            process.happened(Event("message", f"{message.topic} {message.message_id}"))

    async def close(self) -> None:
        await self._sink.close()


class SlowWriter(Executor):
    """A writer thread without the thread: a batch is written some rounds of the loop after it was sealed.

    So as much as possible is under way beside it, and the same in every run.
    """

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done: Future[T] = Future()
        loop = asyncio.get_running_loop()

        def wait(rounds: int) -> None:
            if rounds:
                loop.call_soon(wait, rounds - 1)
            else:
                _perform(done, lambda: function(*args, **kwargs))

        wait(WRITE_ROUNDS)
        return done


class Inline(Executor):
    """Threads without threads, for sync actions."""

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done: Future[T] = Future()
        _perform(done, lambda: function(*args, **kwargs))
        return done


def _perform(done: Future[T], work: Callable[[], T]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:  # noqa: BLE001  # like an executor: whatever it is, it is the result
        done.set_exception(error)


def _sizes(batch: Batch) -> str:
    entries = sum(len(entries) for _, entries in batch.journal.values())
    changes = sum(len(values) for values in batch.state.values())
    counts = {
        "invocations": len(batch.invocations),
        "entries": entries,
        "changes": changes,
        "timers": len(batch.timers),
        "messages": len(batch.outbox),
        "acknowledged": len(batch.outbox_done),
        "positions": len(batch.positions),
        "promises": len(batch.promises),
        "waiters": len(batch.waiters),
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)
