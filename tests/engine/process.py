"""One program in process after process, driven step by step: commits are done when the test says so."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import AsyncExitStack
from typing import Any, ParamSpec, TypeVar

import pytest

from streamstate import App, EngineOptions, Running, Service, VirtualObject, Workflow
from streamstate.definitions import SubscriptionSpec
from streamstate.engine import Intake
from streamstate.errors import CommitFailedError
from streamstate.storage import MemoryStore
from streamstate.testing import MemoryTopics
from tests.engine.jumping import JumpingLoop
from tests.engine.world import SkippingClock

P = ParamSpec("P")
T = TypeVar("T")

ROUNDS_MAX = 20_000  # far more than any of these programs needs


class HeldWriter(Executor):
    """Does the work of the writer's thread, on the test's own and in the test's own time."""

    def __init__(self, *_arguments: object) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self.is_open = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def work() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:  # noqa: BLE001 - the engine is told, as by a thread
                future.set_exception(error)

        self._waiting.append(work)
        if self.is_open:
            self.write()
        return future

    def write(self) -> bool:
        """Do one piece of work; False when there is none."""
        if not self._waiting:
            return False
        self._waiting.popleft()()
        return True


class Process:
    """Runs a program on a store in memory, starts it again, and lets it crash.

    Args:
        definitions: the program.
        patch: undone by `close`.
        live_max: suspended invocations in memory. keys_max: idle keys in memory.
    """

    def __init__(
        self,
        definitions: Sequence[Service | VirtualObject | Workflow],
        patch: pytest.MonkeyPatch,
        *,
        live_max: int = 10_000,
        keys_max: int = 10_000,
    ) -> None:
        self._definitions = definitions
        self._patch = patch
        self._bounds = live_max, keys_max
        self._stack = AsyncExitStack()
        self._writers: list[HeldWriter] = []
        patch.setattr("streamstate.engine._engine.ThreadPoolExecutor", self._new_writer)
        self.loop = JumpingLoop()
        self.clock = SkippingClock()
        self.clock.attach(self._settled)
        self.store = MemoryStore()
        self.topics = MemoryTopics(now_ms=self.clock.now_ms)
        self.running: Running

    @property
    def writer(self) -> HeldWriter:
        return self._writers[-1]

    def start(self) -> None:
        """Start on what the store holds."""
        live_max, keys_max = self._bounds
        options = EngineOptions(live_in_memory_max=live_max, keys_in_memory_max=keys_max, clock=self.clock)
        app = App(self._definitions, name="tests", connectors=[self.topics])
        self.running = self.loop.run(self._stack.enter_async_context(app.embedded(self._new_store(), options=options)))

    def settle(self) -> None:
        """Go on until nothing is runnable and everything is durable."""
        self.loop.run(self._settled())

    def crash(self) -> None:
        """End this process without another commit: what is not durable is lost. Then start the next one."""
        self.store = self.store.reopen()  # the process that is left behind can commit no more
        self._leave()
        self.start()

    def restart(self) -> None:
        """Stop in good order and start again."""
        self.settle()
        self._leave()
        self.store = self.store.reopen()
        self.start()

    def intake(self, subscription: SubscriptionSpec) -> Intake:
        """A door of the test's own for records of a subscription."""
        return self.running.engine.intake(subscription)

    def close(self) -> None:
        """Stop, and undo everything."""
        try:
            self._leave()
        finally:
            self._patch.undo()
            self.loop.finish()

    def _leave(self) -> None:
        self.writer.is_open = True
        while self.writer.write():
            self.loop.spin(1)
        try:
            self.loop.run(self._stack.aclose())
        except CommitFailedError as error:
            assert self.running.engine.store is not self.store, error

    def _new_store(self) -> MemoryStore:
        return self.store

    def _new_writer(self, *arguments: Any) -> HeldWriter:
        self._writers.append(HeldWriter(*arguments))
        return self.writer

    async def _settled(self) -> None:
        for _ in range(ROUNDS_MAX):
            stopped = {name for name, feed in self.running.feeds.items() if feed.error is not None}
            if not self.writer.write() and self.running.engine.is_idle and self.topics.is_drained(stopped):
                return
            await asyncio.sleep(0)
        engine = self.running.engine
        engine._check_open()
        raise AssertionError(
            f"the engine does not come to rest: work {list(engine.core.work)}, commits at rest: "
            f"{engine.core.commits.is_idle}, outbox: {engine.core.outbox.is_idle}, pump asked: {engine._is_pump_asked}"
        )
