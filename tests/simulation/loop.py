"""An event loop for simulations: no threads, no I/O, virtual time; a seed chooses every order that nobody promises.

What asyncio promises is kept: callbacks run in the order of `call_soon`. Not promised are the order of timers of the
same moment, when work in another thread is done, and between which callbacks that is heard of.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from asyncio import _set_running_loop
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVarTuple, Unpack

from streamstate.context._refusals import RefusingLoop
from streamstate.errors import ForeignAwaitError

Ts = TypeVarTuple("Ts")

# A callback costs time now and then, so that what other threads do falls between any two callbacks.
_COSTLY = 0.15
_COST_S_MAX = 0.002


class SimulationLoop(RefusingLoop):
    """See the module.

    Args:
        now_s: the virtual moment to begin with.
        in_thread: does what `run_in_executor` asks for.
        complain: is told what a real loop would log as an unhandled exception.
    """

    def __init__(
        self,
        rng: random.Random,
        now_s: float,
        in_thread: Callable[[Callable[..., Any], tuple[Any, ...]], asyncio.Future[Any]],
        complain: Callable[[str], None],
    ) -> None:
        self._rng = rng
        self._in_thread = in_thread
        self._complain = complain
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, float, int, asyncio.TimerHandle]] = []
        self._numbered = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._is_stopped = False
        self.is_dead = False
        self.now_s = now_s
        self.callbacks = 0

    # Driving.

    def run(self, until_s: float) -> None:
        """Run callbacks and let time pass, until this moment or `stop`."""
        self._is_stopped = False
        rng, ready, timers = self._rng, self._ready, self._timers
        _set_running_loop(self)
        try:
            while not self._is_stopped:
                while timers and timers[0][0] <= self.now_s:
                    ready.append(heapq.heappop(timers)[3])
                if ready:
                    handle = ready.popleft()
                    if not handle.cancelled():
                        self.callbacks += 1
                        handle._run()
                    if rng.random() < _COSTLY:
                        self.now_s += rng.random() * _COST_S_MAX
                elif not timers or timers[0][0] > until_s:
                    self.now_s = max(self.now_s, until_s)
                    return
                else:
                    self.now_s = timers[0][0]
        finally:
            _set_running_loop(None)

    def stop(self) -> None:
        """Return from `run` after the present callback."""
        self._is_stopped = True

    def die(self) -> None:
        """As in a crash: nothing that was to run on this loop ever runs."""
        self.is_dead = True
        self._ready.clear()
        self._timers.clear()
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # dropped on purpose
                coroutine = task.get_coro()
                assert coroutine is not None
                coroutine.close()
        self._tasks.clear()

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self.now_s

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.is_dead

    def is_closed(self) -> bool:
        return self.is_dead

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context, **options)
        if len(self._tasks) > 200:
            self._tasks = [each for each in self._tasks if not each.done()]
        self._tasks.append(task)
        return task

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.is_dead:
            self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.is_dead:
            self._numbered += 1
            heapq.heappush(self._timers, (when, self._rng.random(), self._numbered, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the heap, and is passed over."""

    def set_debug(self, enabled: bool) -> None:
        """Ignored: asyncio's debug mode measures wall time."""

    def _run_in_executor(self, _executor: object, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        return self._in_thread(function, args)

    run_in_executor: Any = _run_in_executor

    def violate(self, what: str) -> ForeignAwaitError:
        """What the loop has no use for, the engine must not ask for."""
        self._complain(what)
        return ForeignAwaitError(what)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        message = str(context.get("message"))
        # "never retrieved" comes whenever the collector finds it; the engine's own cases have tests of their own.
        if not self.is_dead and "never retrieved" not in message:
            self._complain(f"{message}: {context.get('exception')!r}")
