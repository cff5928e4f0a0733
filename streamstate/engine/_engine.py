"""The embedded engine: runs a program's invocations on one store, in the user's process and on its event loop."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from streamstate.context import check_text
from streamstate.definitions import HandlerKind, HandlerSpec, Program, SubscriptionSpec
from streamstate.engine._commits import Commits, Releases
from streamstate.engine._core import Core, Request, paused_text
from streamstate.engine._effects import Effects, already_started, identity_of
from streamstate.engine._executor import Executor
from streamstate.engine._intake import Intake
from streamstate.engine._operations import Operations
from streamstate.engine._options import EngineOptions
from streamstate.engine._outbox import Outbox
from streamstate.engine._ports import Sink
from streamstate.engine._room import Room
from streamstate.engine._steps import Steps
from streamstate.engine._timers import Timers
from streamstate.engine._upkeep import PURGE_EVERY_MS, Upkeep
from streamstate.engine._watchdog import Watchdog
from streamstate.errors import InvocationPausedError, NotFoundError, StreamstateError, Unavailable, UsageError
from streamstate.journal import Completion, Kind, Outcome, Success, fresh_identity
from streamstate.storage import Batch, Origin, PositionId, Status, Store, TimerRow

_logger = logging.getLogger("streamstate.engine")

WORK_PER_PUMP = 512  # turns before the application's loop gets its turn
RECORDS_AHEAD_MAX = 20_000  # records decided but not durable; bounds memory while the disk is slow


class Engine:
    """Accepts inputs, runs handlers, commits, releases. Use `start` and `stop` on a running event loop.

    Args:
        sinks: where published messages go, by cluster.
        committed: is told the source positions that became durable.
    """

    def __init__(
        self,
        program: Program,
        store: Store,
        *,
        options: EngineOptions,
        sinks: Mapping[str, Sink],
        committed: Callable[[dict[PositionId, int]], None] | None = None,
    ) -> None:
        self.program = program
        self.store = store
        self.options = options
        self.clock = options.clock
        self._committed = committed
        self._writer = ThreadPoolExecutor(1, "streamstate-writer") if options.writes_in_thread else None
        self._loop: asyncio.AbstractEventLoop
        self._switch_interval_s: float | None = None
        self._is_pump_asked = False
        self._failure: BaseException | None = None
        self._is_stopping = False
        self._is_failure_told = False
        self._nonce = 0
        self._watchdog = Watchdog(options.watchdog.total_seconds()) if options.watchdog is not None else None
        self._changed: list[asyncio.Future[None]] = []
        self._relays: list[asyncio.Task[None]] = []
        self.core = core = Core(program, store, self.clock, options.keys_in_memory_max, self._kick)
        core.commits = Commits(store, self._writer, core.before_seal, self._release, self._fail)
        core.timers = Timers(self.clock, self._kick)
        core.outbox = Outbox(sinks, store, self._acknowledged)
        self._steps = Steps(options.threads, self._step_finished)
        self.operations = Operations(core, self._steps)
        self.effects = Effects(core, self.operations.cancel)
        self.executor = Executor(core, self.effects, self._steps, self.operations.cancel, options.always_replay)
        self.operations.executor = self.executor
        self._room = Room(store, options.free_bytes_min, self._tell, self.fail)
        self._upkeep = Upkeep(core, self.executor, options.live_in_memory_max)

    async def start(self) -> None:
        """Recover what the store holds, and begin."""
        self._loop = asyncio.get_running_loop()
        if self._writer is not None and self.options.switch_interval is not None:
            self._switch_interval_s = sys.getswitchinterval()
            sys.setswitchinterval(self.options.switch_interval.total_seconds())
        self.clock.start(self.store.header.clock_ms)
        self._room.start(self._loop)
        self.core.timers.load(self.store)
        self.core.timers.add(TimerRow(self.clock.now_ms() + PURGE_EVERY_MS, "", "purge", 0))
        self._upkeep.recover()
        self.core.trials.begin(self.clock.now_ms())
        self._relays = [
            asyncio.create_task(relay.run(), name=f"streamstate outbox {cluster}")
            for cluster, relay in self.core.outbox.relays.items()
        ]
        for task in self._relays:
            task.add_done_callback(self._relay_ended)
        if self._watchdog is not None:
            self._watchdog.start()
        self._kick()

    async def stop(self) -> None:
        """Let what is running end, within the drain time; the rest goes on at the next start.

        Raises:
            StreamstateError: what the engine failed with, unless somebody was told already.
        """
        self._is_stopping = True
        if self._failure is None:
            self._kick()
            try:
                async with asyncio.timeout(self.options.drain.total_seconds()):
                    await self._until(lambda: not self.core.work and self.core.commits.is_idle and not len(self._steps))
            except TimeoutError:
                _logger.warning(
                    "%d steps still run after %s; they run again at the next start",
                    len(self._steps),
                    self.options.drain,
                )
            except StreamstateError as error:
                _logger.error("stopping after a failure: %s", error)
                self._is_failure_told = False
        await self._steps.close()
        for task in self._relays:
            task.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)
        for relay in self.core.outbox.relays.values():
            await relay.close()
        self.clock.wake_at(None, self._kick)
        self._room.stop()
        if self._failure is None:
            self.core.commits.commit()
            await self._until(lambda: self.core.commits.is_idle)
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._writer is not None:
            self._writer.shutdown()
        if self._switch_interval_s is not None:
            sys.setswitchinterval(self._switch_interval_s)
        for inv in list(self.core.live.values()):
            self.executor.drop(inv)
        if self._failure is not None and not self._is_failure_told:
            raise self._failure

    def intake(self, subscription: SubscriptionSpec) -> Intake:
        """The door for a subscription's records; it goes on where the store says."""
        positions = {
            (topic, topic_id, partition): offset
            for (name, topic, topic_id, partition), offset in self.store.positions().items()
            if name == subscription.name
        }
        if subscription.value is not None:
            self.executor.subscription_decoders[subscription.name] = subscription.value.decode
        return Intake(self.core, self.effects, self.executor, subscription, positions)

    # For clients in this process.

    async def submit(
        self,
        spec: HandlerSpec,
        key: str,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        delay_ms: int | None = None,
    ) -> tuple[str, bool, asyncio.Future[Outcome]]:
        """Accept an input; returns, when it is durable, its id, whether it is new, and its outcome to come (I1, I2)."""
        due_ms = None if delay_ms is None else self.clock.now_ms() + delay_ms
        invocation, is_new = self._accept(spec, key, body, headers, idempotency_key, due_ms)
        ended = self.result(invocation)
        await self.durable()
        return invocation, is_new, ended

    async def call(
        self,
        spec: HandlerSpec,
        key: str,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Outcome:
        """Accept an input and wait for its outcome; a workflow that was started before is refused (409)."""
        invocation, is_new = self._accept(spec, key, body, headers, idempotency_key, None)
        if not is_new and spec.kind is HandlerKind.WORKFLOW:
            return already_started(spec, key, invocation)
        return await self.result(invocation)

    def _accept(
        self,
        spec: HandlerSpec,
        key: str,
        body: bytes,
        headers: Mapping[str, str] | None,
        idempotency_key: str | None,
        due_ms: int | None,
    ) -> tuple[str, bool]:
        self._check_open()
        self._room.check()
        spec = self.program.handler(spec.service, spec.name)
        check_text(key, "the key")
        check_text(idempotency_key or "", "the idempotency key")
        for name, value in (headers or {}).items():
            check_text(name, "a header's name")
            check_text(value, f"the header {name!r}")
        self._nonce += 1
        nonce = f"{self.store.header.directory_id}/{self.store.header.epoch}/{self._nonce}"
        invocation, is_identified = identity_of(spec, key, idempotency_key, fresh_identity(nonce))
        origin = Origin(headers=dict(headers or {}))
        existing = self.core.accept(
            Request(invocation, spec, key, body, origin, idempotency_key, is_identified, due_ms)
        )
        self._kick()  # one that has to wait for its key is to be durable too
        return invocation, existing is None

    def result(self, invocation: str) -> asyncio.Future[Outcome]:
        """The outcome of an invocation, when it is durable. Ask before the next await of `submit`, or it may be gone.

        Raises (when awaited):
            NotFoundError: no such invocation.
            InvocationPausedError: it is paused, or becomes so.
        """
        self._check_open()
        future: asyncio.Future[Outcome] = self._loop.create_future()
        # A caller that sends and never asks is not to be told by asyncio, at some later moment, that it did not.
        future.add_done_callback(_look_at)
        row = self.core.find_row(invocation)
        if row is None:
            future.set_exception(
                NotFoundError(f"no invocation {invocation}: it never was, or what it left is past its retention")
            )
        elif row.status is Status.COMPLETED:
            self.core.commits.releases.replies.append((future, row.failure or Success(row.result)))
            self.core.commits.touch()
            self._kick()
        elif row.status is Status.PAUSED:
            future.set_exception(InvocationPausedError(paused_text(row)))
        else:
            self.core.replies.setdefault(invocation, []).append(future)
        return future

    def complete_awakeable(self, awakeable: str, outcome: Outcome) -> bool:
        """Complete an awakeable; False when nothing waits for it any more.

        Raises:
            UsageError: not the id of an awakeable.
        """
        self._check_open()
        return self.core.waits.complete_awakeable(awakeable, outcome)

    async def durable(self) -> None:
        """Wait until everything decided so far is durable."""
        self._check_open()
        accepted: asyncio.Future[None] = self._loop.create_future()
        self.core.commits.releases.accepted.append(accepted)
        self.core.commits.touch()
        self._kick()
        await accepted

    def object_state(self, service: str, key: str) -> dict[str, bytes]:
        """The state of an object at the latest end of a turn."""
        return dict(self.core.slot_of(service, key).values)

    async def patch_state(self, service: str, key: str, changes: dict[str, bytes | None]) -> None:
        """Change the state of an object from outside; returns when it is durable.

        Raises:
            UsageError: a handler holds the object.
        """
        self._check_open()
        slot = self.core.slot_of(service, key)
        if slot.holder is not None:
            raise UsageError(f"{service}/{key} is held by {slot.holder.label}; wait for it to end, or kill it")
        slot.apply(dict(changes), self.core.commits.batch, self.core.commits.touch())
        await self.durable()

    # Idleness and capacity.

    @property
    def is_idle(self) -> bool:
        """True when nothing is running, nothing waits to be written, and nothing waits to be published."""
        core = self.core
        if self._is_pump_asked:
            return False
        return not core.work and core.commits.is_idle and not len(self._steps) and core.outbox.is_idle

    async def idle(self) -> None:
        """Wait until nothing is runnable."""
        await self._until(lambda: self.is_idle)

    async def capacity(self, subscription: SubscriptionSpec) -> None:
        """Wait until more records of this subscription may be taken in.

        That is when few enough of them are not durable yet, and the store's volume has room.
        """
        ahead = self.core.commits.records_ahead
        name, limit = subscription.name, subscription.max_in_flight

        def may_go_on() -> bool:
            return ahead.get(name, 0) < limit and sum(ahead.values()) < RECORDS_AHEAD_MAX and not self._room.is_low

        if not may_go_on():
            await self._until(may_go_on)

    def fail(self, error: Exception) -> None:
        """Stop as a whole: something that must not happen has happened."""
        _logger.error("the engine has stopped", exc_info=error)
        self._fail(error)

    async def failed(self) -> NoReturn:
        """Wait for the engine to fail; raises what it failed with."""
        await self._until(lambda: False)
        raise AssertionError("unreachable: only a failure ends the wait")

    async def _until(self, condition: Callable[[], bool]) -> None:
        while True:
            if self._failure is not None:
                self._is_failure_told = True
                raise self._failure
            if condition():
                return
            changed: asyncio.Future[None] = self._loop.create_future()
            self._changed.append(changed)
            await changed

    def _tell(self) -> None:
        changed, self._changed = self._changed, []
        for future in changed:
            if not future.done():
                future.set_result(None)

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._is_stopping:
            raise Unavailable("the engine is stopping; try again when it has been started")

    # The pump.

    def _kick(self) -> None:
        if not self._is_pump_asked and self._failure is None:
            self._is_pump_asked = True
            # Not the running loop: that may be a handler's.
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._is_pump_asked = False
        try:
            self.pump()
        except Exception as error:  # memory may be ahead of the disk now: the engine stops as a whole
            _logger.exception("the engine has stopped")
            self._fail(error)

    def pump(self) -> None:
        """Fire timers, run turns, commit."""
        if self._failure is not None:
            return
        core = self.core
        work = core.work
        # Not all that are due: after a long stop that may be a million, and each brings an invocation into memory.
        are_timers_left = True
        for _ in range(WORK_PER_PUMP - len(work)):
            timer = core.timers.pop_due()
            if timer is None:
                are_timers_left = False  # and the clock was asked for the next one
                break
            self._upkeep.fire(timer)
        left = WORK_PER_PUMP
        while work and left:
            left -= 1
            self.executor.run(work.popleft())
        core.commits.commit()
        if work or are_timers_left:
            self._kick()
        self._tell()

    # Callbacks of the parts.

    def _release(self, batch: Batch, releases: Releases) -> None:
        core = self.core
        releases.answer()
        for inv, index in releases.steps:
            self.executor.start_step(inv, index)
        for inv, index, name in releases.reads:
            if core.live.get(inv.id) is not inv or not core.waits.awaits(inv, index, Kind.GET):
                continue
            value = inv.slot.values.get(name) if inv.slot is not None else None
            core.arrive(inv.id, Completion(index, Success(value), self.clock.now_ms()))
        for inv in releases.counted:
            core.trials.counted(inv)
        for invocation in releases.cleared:
            core.trials.cleared(invocation)
        if batch.outbox:
            core.outbox.release(batch.outbox)
        if batch.positions and self._committed is not None:
            self._committed(batch.positions)
        core.forget_durable()
        core.keys.evict(core.commits.durable)
        self._upkeep.evict()
        self._room.look()
        self._tell()

    def _step_finished(self, invocation: str, index: int, result: Outcome | BaseException) -> None:
        self.executor.step_finished(invocation, index, result)
        self._kick()

    def _acknowledged(self, cluster: str, position: int) -> None:
        self.core.commits.batch.outbox_done[cluster] = position
        self.core.commits.touch()
        self._kick()

    def _relay_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failure is not None:
            return
        self._failure = error
        for replies in self.core.replies.values():
            for reply in replies:
                if not reply.done():
                    reply.set_exception(error)
        releases = self.core.commits.releases
        for accepted in releases.accepted:
            if not accepted.done():
                accepted.set_exception(error)
        for reply, _outcome in releases.replies:
            if not reply.done():
                reply.set_exception(error)
        self._tell()


def _look_at(future: asyncio.Future[Outcome]) -> None:
    if not future.cancelled():
        future.exception()
