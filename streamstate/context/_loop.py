"""The event loop that a handler runs on: a ready queue and nothing else. No I/O, no clock, no threads.

L1  The order of callbacks depends only on what the handler does and on the order of deliveries.
L2  A timer is a durable one: `call_at` asks the session for it, and whoever drives the handler fires it.
L3  Whatever would wait for the outside world is refused at once, with the line and the remedy.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
from asyncio import _get_running_loop, _set_running_loop
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, Protocol, TypeVarTuple, Unpack

from streamstate.context._refusals import RefusingLoop
from streamstate.context._tasks import HandlerFuture, HandlerTask, RootTask
from streamstate.errors import ForeignAwaitError, HandlerFault, RunawayTurnError

Ts = TypeVarTuple("Ts")

_logger = logging.getLogger("streamstate.handler")

CALLBACKS_PER_TURN_MAX = 100_000  # a handler that spins on ready awaitables is cut after about 0.1 s

_REMEDY = (
    "Only durable verbs may be awaited in a handler (ctx.run, ctx.call, ctx.sleep, asyncio.sleep, asyncio.gather of them …). "
    'Put it into a step: await ctx.run("name", action, …)'
)

class TimerHost(Protocol):
    """Keeps the durable timers of a loop."""

    def start_timer(self, handle: asyncio.TimerHandle) -> None: ...

    def cancel_timer(self, handle: asyncio.TimerHandle) -> None: ...


class HandlerLoop(RefusingLoop):
    """The deterministic loop of one invocation; see the module's rules.

    Attributes:
        root: the handler's own task. tasks: those it has made, by number. timers: keeps its durable timers.
        ready: callbacks to run. is_touched: there may be callbacks, tasks or a violation. number: of the youngest future or task. now_s: seconds since the invocation's first turn.
        violation: what the handler did that it must not; ends the turn, whatever the handler does about it.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.tasks: dict[int, HandlerTask[Any]] = {}
        self.root: RootTask | None = None
        self.violation: HandlerFault | None = None
        self.is_touched = False
        self.ready: deque[asyncio.Handle] = deque()
        self.timers: TimerHost | None = None
        self.number = 0
        self._ordered: dict[int, HandlerTask[Any]] = {}

    def drain(self) -> None:
        """Run callbacks until none is ready.

        Raises:
            RunawayTurnError: they never end.
        """
        ready = self.ready
        left = CALLBACKS_PER_TURN_MAX
        while ready:
            handle = ready.popleft()
            if not handle._cancelled:  # noqa: SLF001  # a loop runs its handles; asyncio has no public way
                handle._run()  # noqa: SLF001  # as above
            left -= 1
            if not left:
                raise RunawayTurnError(
                    f"the handler ran {CALLBACKS_PER_TURN_MAX:,} callbacks without waiting for anything, at "
                    f"{self.whereabouts()}. Await something durable in the loop, such as ctx.sleep(timedelta(...))"
                )

    def push(self, handle: asyncio.Handle) -> None:
        """A timer has fired."""
        self.ready.append(handle)

    def whereabouts(self) -> str:
        """The line of the handler's own code that it is at, as file:line."""
        coro = self.root.get_coro() if self.root is not None else None
        frame: FrameType | None = getattr(coro, "cr_frame", None)
        return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "its end"

    def refuse(self, what: str) -> NoReturn:
        self.is_touched = True
        self.violation = ForeignAwaitError(f"a handler called {what} at {self.whereabouts()}. {_REMEDY}")
        raise self.violation

    def time(self) -> float:
        return self.now_s

    # Futures and tasks ask at their birth; `bool()` is the quickest callable that says False.
    get_debug: Any = bool

    def set_debug(self, enabled: bool) -> None:
        """Ignored: asyncio's debug mode measures wall time."""

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> HandlerFuture[Any]:
        future: HandlerFuture[Any] = HandlerFuture(loop=self)
        self.number = future.number = self.number + 1
        return future

    def create_task(
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None
    ) -> HandlerTask[Any]:
        given = _argument_of_as_completed()
        return self._new_task(coro, name, context) if given is None else self._ordered_task(given, coro, name, context)

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: Unpack[Ts], context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.is_touched = True
        self.ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: Unpack[Ts], context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        self.refuse("call_soon_threadsafe")

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: Unpack[Ts], context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: Unpack[Ts], context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        assert self.timers is not None, "a loop serves a handler before its code runs"
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.timers.start_timer(handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if self.timers is not None:
            self.timers.cancel_timer(handle)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        _logger.warning(
            "in %s: %s", self.whereabouts(), context.get("message"), exc_info=context.get("exception") or False
        )

    def live_tasks(self) -> list[HandlerTask[Any]]:
        """Those that have not ended, in the order of their creation."""
        self.tasks = {number: task for number, task in self.tasks.items() if not task.done()}
        return list(self.tasks.values())

    def _new_task(
        self, coro: Any, name: str | None, context: contextvars.Context | None
    ) -> HandlerTask[Any]:
        self.number += 1
        task: HandlerTask[Any] = HandlerTask(coro, loop=self, number=self.number, name=name, context=context)
        self.tasks[self.number] = task
        return task

    def _ordered_task(
        self, given: object, coro: Any, name: str | None, context: contextvars.Context | None
    ) -> HandlerTask[Any]:
        """`asyncio.as_completed` starts coroutines in the order of a set; start them in that of the caller's list."""
        found = self._ordered.pop(id(coro), None)
        if found is not None:
            return found
        if not isinstance(given, (list, tuple)):
            self.refuse(
                "asyncio.as_completed with something else than a list or tuple, so that the order of its coroutines is "
                "lost; pass a list"
            )
        for each in given:
            if asyncio.iscoroutine(each) and id(each) not in self._ordered:
                self._ordered[id(each)] = self._new_task(each, name, context)
        return self._ordered.pop(id(coro))


def _argument_of_as_completed() -> Any:
    """The argument of the `asyncio.as_completed` that is creating a task now, or None."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(4):
        if frame is None or frame.f_globals.get("__name__") != "asyncio.tasks":
            return None
        if frame.f_code.co_name in ("as_completed", "__init__"):
            return frame.f_locals.get("fs", frame.f_locals.get("aws"))
        frame = frame.f_back
    return None


@contextmanager
def running(loop: HandlerLoop) -> Iterator[None]:
    """Make `loop` the running one; afterwards the one before it runs again."""
    outer = _get_running_loop()
    _set_running_loop(loop)
    try:
        yield
    finally:
        _set_running_loop(outer)
