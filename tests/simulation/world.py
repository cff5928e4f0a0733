"""Carries out a plan: one process after the other on the same store, until all is done, forgotten, and checked."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import msgspec

from streamstate.definitions import HandlerSpec
from streamstate.engine import Engine, EngineOptions, LocalClient, _upkeep
from streamstate.engine._keys import Live
from streamstate.engine._waits import Waits
from streamstate.ingress import Feed, PartitionId
from streamstate.journal import Failure
from streamstate.storage import InvocationRow, PositionId, Status
from streamstate.storage._memory_content import Content
from tests.simulation import witness as stage
from tests.simulation.audit import Audit, AuditedStore, tag_of
from tests.simulation.bounds import bounded
from tests.simulation.clients import Clients
from tests.simulation.ending import Ending
from tests.simulation.handlers import PROGRAM
from tests.simulation.loop import SimulationLoop
from tests.simulation.outside import Sink, Source, Topics, Wall
from tests.simulation.plans import Fault, Plan
from tests.simulation.threads import Threads
from tests.simulation.witness import Witness

CALLBACKS_MAX = 500_000  # a run takes a few thousand
VIOLATIONS_MAX = 20  # then a run has said enough
_FOR_EVER_S = 1e9


class World:
    """See the module.

    Attributes:
        engine, client, feeds, threads, loop: of the process that runs now. processes: how many there were.
        faults: those to come. slow_until_s: until when commits are slow. is_stopping: the process ends in good order.
    """

    def __init__(self, plan: Plan, is_tracing: bool) -> None:
        self.plan = plan
        self.witness = Witness(is_tracing)
        self.content = Content(f"{plan.seed:032x}")
        self.audit = Audit(self.witness, self.content)
        self.rng = random.Random(f"schedule {plan.seed}")
        self._wall = Wall()
        self._now_s = 0.0
        self._down_until_s = 0.0
        self.slow_until_s = 0.0
        self.faults = list(plan.faults)
        self._ending: Fault | None = None
        self._is_over = False
        self.is_stopping = False
        self.processes = 0
        self.topics = Topics()
        self.sink = Sink(self.rng, self.audit, self.witness, self._is_sink_down, plan.sink_ms)
        self.clients = Clients(self)
        self._ending_of_all = Ending(self)
        self.threads: Threads
        self.engine: Engine
        self.client: LocalClient
        self.feeds: dict[str, Feed] = {}
        self._feeding: list[asyncio.Task[None]] = []
        self.loop: SimulationLoop

    def run(self) -> None:
        """Everything, to the end."""
        stage.enter(self.witness)
        try:
            with bounded(self.plan.limits, self._wall):
                while not self._is_over:
                    self._live()
        finally:
            stage.leave()

    def _live(self) -> None:
        """One process, from its start to its end."""
        self.processes += 1
        self._ending = None
        self.is_stopping = False
        self.threads = Threads(self)
        self.loop = loop = SimulationLoop(self.rng, self._now_s, self.threads.run, self._complain)
        self.witness.now_s = self._wall.now_s = loop.time
        self.witness.handed_out = self._owe
        self.witness.note("START", self.processes)
        self.spawn(self._start())
        while self._ending is None and not self._is_over:
            loop.run(_FOR_EVER_S)
            if loop.callbacks > CALLBACKS_MAX:
                self.witness.violate("I9", f"still busy after {CALLBACKS_MAX:,} callbacks")
                self._is_over = True
        self._bury(loop)
        ending = self._ending
        self._now_s = loop.now_s + (ending.down_ms / 1000 if ending is not None else 0)

    def _bury(self, loop: SimulationLoop) -> None:
        """Forget the process; handlers that stand somewhere are dropped there."""
        self.witness.handed_out = lambda awakeable: None
        self.engine._steps._tasks.clear()
        for inv in list(self.engine.core.live.values()):
            self.engine.executor.drop(inv)
        loop.die()
        self.topics.sources.clear()
        self.witness.crash()

    def _complain(self, message: str) -> None:
        self.witness.violate("loop", message)

    # A process begins.

    async def _start(self) -> None:
        limits, loop = self.plan.limits, self.loop
        store = AuditedStore(self.content, self.audit)
        options = EngineOptions(
            always_replay=limits.always_replay,
            writes_in_thread=limits.writes_in_thread,
            keys_in_memory_max=limits.keys,
            live_in_memory_max=limits.live,
            # What looks at the machine is not of this world.
            watchdog=None,
            free_bytes_min=0,
        )
        base_ms = max(self._wall.time_ns() // 1_000_000, self.audit.clock_ms)
        started_s = loop.now_s
        self.witness.now_ms = lambda: base_ms + (loop.now_s - started_s) * 1000
        self.engine = Engine(PROGRAM, store, options=options, sinks={"memory": self.sink}, committed=self._committed)
        self.client = LocalClient(self.engine)
        self._watch_cycles(self.engine.core.waits)
        self._schedule()
        _upkeep.PAGE = limits.page
        await self.engine.start()
        # A full page is all that one round of the purge takes; small ones are for the recovery.
        _upkeep.PAGE = 1_000
        loop.create_task(self.engine.failed()).add_done_callback(self._engine_failed)
        self.feeds = {}
        for subscription in PROGRAM.subscriptions:
            bounded_subscription = replace(subscription, max_in_flight=limits.in_flight)
            topic = str(subscription.topics[0]) if isinstance(subscription.topics, tuple) else ""
            source = Source(topic, subscription.name, self.topics, self.rng, self.audit, self.witness)
            self.feeds[subscription.name] = feed = Feed(self.engine, bounded_subscription, source)
            await feed.open()
        self._feeding = [self.spawn(feed.run()) for feed in self.feeds.values()]
        for awakeable in self.witness.owed:
            self.spawn(self._complete(awakeable))
        self.clients.begin()
        self.spawn(self._ending_of_all.settle())

    def _watch_cycles(self, waits: Waits) -> None:
        """A call that is refused never becomes an invocation: note whose it was."""
        find = waits.find_cycle

        def watched(target: HandlerSpec, key: str, caller: Live) -> Failure | None:
            failure = find(target, key, caller)
            if failure is not None:
                self.witness.count("cycles refused")
                self.witness.refused.add((tag_of(caller.row.input), target.service, key))
            return failure

        setattr(waits, "find_cycle", watched)  # noqa: B010  # methods are not assigned to, and here it is the point

    def spawn(self, what: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(what)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """What the simulation itself, a feed or a client did not expect."""
        if task.cancelled() or self.loop.is_dead:
            return
        error = task.exception()
        if error is not None and "planned" not in f"{error} {error.__cause__}":
            text = "".join(traceback.format_exception(error)[-3:])
            self.witness.violate("task", f"{task.get_name()} ended with {text}")
            self.end()

    def _schedule(self) -> None:
        faults, self.faults = self.faults, []
        for fault in faults:
            self.faults.append(fault)
            self.loop.call_at(max(self.loop.now_s, fault.at_ms / 1000), self._strike, fault)

    def _committed(self, positions: dict[PositionId, int]) -> None:
        by_feed: dict[str, dict[PartitionId, int]] = {}
        for (subscription, topic, topic_id, partition), offset in positions.items():
            by_feed.setdefault(subscription, {})[PartitionId(topic, topic_id, partition)] = offset
        for name, reported in by_feed.items():
            if name in self.feeds:
                self.feeds[name].report(reported)

    def _engine_failed(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self.loop.is_dead:
            return
        error = task.exception()
        cause = error.__cause__ if error is not None else None
        if "planned" not in str(cause or error):
            self.witness.violate("engine", f"the engine has failed: {error!r}, from {cause!r}")
            self.end()

    def end(self) -> None:
        """The run is over."""
        self._is_over = True
        self.loop.stop()

    @property
    def has_said_enough(self) -> bool:
        """True when so many rules are broken that it need not go on."""
        return len(self.witness.violations) > VIOLATIONS_MAX

    # What goes wrong.

    def _strike(self, fault: Fault) -> None:
        self.faults.remove(fault)
        self.witness.note("FAULT", fault.kind, fault.n)
        match fault.kind:
            case "crash":
                self.crash(fault)
            case "stop":
                self.spawn(self._stop(fault))
            case "crash_before" | "crash_after" | "commit_error":
                self.threads.armed.append(msgspec.structs.replace(fault, n=self.audit.commits + fault.n))
            case "jump":
                self._wall.offset_s += fault.n / 1000
                self.witness.count("clock jumps forward" if fault.n > 0 else "clock jumps back")
            case "sink_down":
                self._down_until_s = self.loop.now_s + fault.n / 1000
            case "slow_disk":
                self.slow_until_s = self.loop.now_s + fault.n / 1000
            case "rewind":
                for source in self.topics.sources:
                    source.rewind(fault.n)
            case _:
                self._operate(fault)

    def crash(self, fault: Fault) -> None:
        """The process is gone, now."""
        self._count_overlap(fault.kind)
        self._ending = fault
        self.loop.stop()

    def _count_overlap(self, kind: str) -> None:
        """A crash of an idle process shows little: count those of busy ones."""
        witness = self.witness
        witness.count(kind)
        engine = getattr(self, "engine", None)
        if engine is None:
            return
        core = engine.core
        states = {
            "a commit under way": self.threads.is_writing,
            "actions running": len(engine._steps) > 0,
            "turns not yet durable": not core.commits.is_idle,
            "a queue at a key": any(slot.queue for slots in core.keys.services.values() for slot in slots.values()),
            "handlers waiting": any(inv.row.status is Status.SUSPENDED for inv in core.live.values()),
            "arrivals not yet seen": bool(core.undelivered),
            "clients waiting": bool(core.replies),
            "messages in the outbox": any(self.content.outbox.values()),
        }
        for state, holds in states.items():
            if holds:
                witness.count(f"crash with {state}")

    async def _stop(self, fault: Fault) -> None:
        """In good order, as `App.embedded` does it."""
        self.is_stopping = True
        for task in self._feeding:
            task.cancel()
        await asyncio.gather(*self._feeding, return_exceptions=True)
        if self._ending is None:
            await self.engine.stop()
            self.engine.store.close()
            self.witness.count("stop")
            self._ending = fault
            self.loop.stop()

    def _operate(self, fault: Fault) -> None:
        """A person cancels, kills or resumes one of the invocations there are."""
        engine = getattr(self, "engine", None)
        rows: dict[str, InvocationRow] = dict(self.content.invocations)
        if engine is not None:
            rows.update({inv.id: inv.row for inv in engine.core.live.values()})
        found = [row for row in rows.values() if row.status is not Status.COMPLETED and tag_of(row.input)]
        if engine is None or not found or engine._failure is not None:
            return
        row = sorted(found, key=lambda each: each.seq)[fault.n % len(found)]
        tag = tag_of(row.input)
        self.witness.note("operator", fault.kind, tag, row.status)
        self.witness.count(f"{fault.kind} {row.status}")
        if fault.kind == "resume":
            if row.id in engine.core.live:
                engine.operations.resume(row.id)
            return
        if fault.kind == "kill" or tag not in self.witness.struck:
            self.witness.struck[tag] = fault.kind
        if fault.kind == "kill":
            engine.operations.kill(row.id)
        else:
            engine.operations.cancel(row.id)

    def _is_sink_down(self) -> bool:
        return self.loop.now_s < self._down_until_s

    def _owe(self, awakeable: str) -> None:
        self.spawn(self._complete(awakeable))

    async def _complete(self, awakeable: str) -> None:
        """The outside world completes an awakeable, and again with another value, which must have no effect."""
        owed = self.witness.owed[awakeable]
        await asyncio.sleep(max(0.0, owed.due_s - self.loop.now_s))
        if self.engine._failure is not None or self.is_stopping:
            return
        self.client.resolve_awakeable(awakeable, owed.value)
        if self.rng.random() < 0.3:
            self.client.resolve_awakeable(awakeable, "too late")
        try:
            await self.engine.durable()
        except Exception as error:
            if "planned" not in str(error) and "stopping" not in str(error):
                raise
            return
        self.witness.owed.pop(awakeable, None)
