"""The event loop that a handler runs on: a ready queue and nothing else. No I/O, no clock, no threads.

L1  The order of callbacks depends only on what the handler does and on the order of deliveries.
L2  A timer is a durable one: `call_at` asks the session for it, and whoever drives the handler fires it.
L3  Whatever would wait for the outside world is refused at once, with the line and the remedy.
L4  Whatever asyncio would do in the order of a set of things that hash by their address is refused or put in order.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
from asyncio import _get_running_loop, _set_running_loop
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from types import FrameType
from typing import Any, Protocol, TypeAlias, TypeVarTuple, Unpack

from streamstate.context._refusals import RefusingLoop
from streamstate.context._tasks import HandlerFuture, HandlerTask, RootTask
from streamstate.errors import ForeignAwaitError, HandlerFault, RunawayTurnError

Ts = TypeVarTuple("Ts")

_logger = logging.getLogger("streamstate.handler")

CALLBACKS_PER_TURN_MAX = 100_000  # a handler that spins on ready awaitables is cut after about 0.1 s

_REMEDY = (
    "Only durable verbs may be awaited in a handler (ctx.run, ctx.call, ctx.sleep, asyncio.sleep, asyncio.gather of "
    'them …). Put it into a step: await ctx.run("name", action, …)'
)

TASKS_KEPT_MIN = 64  # ended tasks are dropped from the list when it has this length, or twice what was left then


class LoopHost(Protocol):
    """Whom a loop works for: keeps its durable timers."""

    @property
    def label(self) -> str:
        """How messages name it."""

    @property
    def seed(self) -> int:
        """Another one for each invocation, the same on every attempt."""

    def start_timer(self, handle: asyncio.TimerHandle) -> None: ...

    def cancel_timer(self, handle: asyncio.TimerHandle) -> None: ...


class HandlerLoop(RefusingLoop):
    """The deterministic loop of one invocation; see the module's rules.

    Attributes:
        root: the handler's own task. tasks: those it has made, by number. host: keeps its durable timers.
        ready: callbacks to run. number: of the youngest future or task.
        now_s: seconds since the invocation's first turn.
        violation: what the handler did that it must not; ends the turn, whatever the handler does about it.
    """

    _salt: int | None = None
    _tasks_max = TASKS_KEPT_MIN

    def __init__(self) -> None:
        self.now_s = 0.0
        self.tasks: dict[int, HandlerTask[Any]] = {}
        self.root: RootTask | None = None
        self.violation: HandlerFault | None = None
        self.is_touched = False
        self.ready: deque[asyncio.Handle] = deque()
        self.host: LoopHost | None = None
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

    def let_go(self) -> None:
        """The handler has ended: refer to nothing that refers to this loop."""
        self.host = self.root = None

    def push(self, handle: asyncio.Handle) -> None:
        """A timer has fired."""
        self.ready.append(handle)

    def finish(self, generator: AsyncGenerator[Any, Any]) -> None:
        """An async generator was left before its end: run its `finally` blocks, in a task of this handler.

        One that the cyclic garbage collector finds while another handler runs is dropped without; its handler left it
        at no moment that a replay could find again.
        """
        if _get_running_loop() is not self:
            return
        if self.violation is None:
            self.create_task(generator.aclose())
            return
        # The handler is being dropped, and so is what it left: as far as it gets without waiting.
        try:
            generator.aclose().send(None)
        except StopIteration:
            return
        except Exception as error:  # noqa: BLE001  # of the user's finally block, which a replay runs again
            _logger.debug("an async generator was dropped inside a finally block: %r", error)

    def whereabouts(self) -> str:
        """The line of the user's code that the current task is at, or the handler itself, as file:line."""
        for task in (asyncio.current_task(self), self.root):
            frame: FrameType | None = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
            if frame is not None and not str(frame.f_globals.get("__name__")).startswith("asyncio"):
                return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        return "its end"

    def condemn(self, error: HandlerFault) -> None:
        """The handler did what it must not: the turn ends with this, whatever the handler does about it."""
        self.is_touched = True
        self.violation = error

    def violate(self, what: str) -> ForeignAwaitError:
        error = ForeignAwaitError(f"a handler {what} at {self.whereabouts()}. {_REMEDY}")
        self.condemn(error)
        return error

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

    def next_number(self) -> int:
        """By which a future or task of this loop hashes."""
        self.number += 1
        # The numbers must begin anew for the next handler, if the loop serves several.
        self.is_touched = True
        return self.number

    def create_future(self) -> HandlerFuture[Any]:
        caller = sys._getframe(1)
        if caller.f_code.co_name == "_wait" and caller.f_globals.get("__name__") == "asyncio.tasks":
            self._refuse_unordered(caller.f_locals["fs"])
        return HandlerFuture(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None
    ) -> HandlerTask[Any]:
        given = _argument_of_as_completed()
        return self._new_task(coro, name, context) if given is None else self._ordered_task(given, coro, name, context)

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.is_touched = True
        self.ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        self.refuse("called call_soon_threadsafe of the event loop")

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
        if self.host is None:
            raise self.violate("started a timer after its end")
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.host.start_timer(handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if self.host is not None:
            self.host.cancel_timer(handle)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        # What a violation brings about in other tasks says nothing: the turn fails with the violation.
        level = logging.WARNING if self.violation is None else logging.DEBUG
        error = context.get("exception") or False
        _logger.log(level, "in %s: %s", self.whereabouts(), context.get("message"), exc_info=error)

    def live_tasks(self) -> list[HandlerTask[Any]]:
        """Those that have not ended, in the order of their creation."""
        self.tasks = {number: task for number, task in self.tasks.items() if not task.done()}
        return list(self.tasks.values())

    def _new_task(self, coro: Any, name: str | None, context: contextvars.Context | None) -> HandlerTask[Any]:
        salt = self._salt
        if salt is None:
            # asyncio keeps all tasks of a thread in one set: without a salt, those of all invocations would collide.
            # It leaves the lower bits alone, and with them the order of the tasks in a set of their own.
            assert self.host is not None, "a loop serves a handler before its code runs"
            salt = self._salt = (self.host.seed & 0xFFFF_FFFF) << 16
        if len(self.tasks) >= self._tasks_max:
            self._tasks_max = max(TASKS_KEPT_MIN, 2 * len(self.live_tasks()))
        number = self.next_number()
        task: HandlerTask[Any] = HandlerTask(
            coro, loop=self, number=salt + number, name=name or f"task-{number}", context=context
        )
        self.tasks[number] = task
        return task

    def _refuse_unordered(self, futures: Iterable[object]) -> None:
        """L4 for `asyncio.wait`, which gives back sets."""
        for future in futures:
            if not isinstance(future, (HandlerFuture, HandlerTask)):
                self.refuse(
                    f"called asyncio.wait with {future!r}, whose place in a set is another on every attempt (an "
                    "asyncio.gather, or a future of another loop); await it in a coroutine, and pass "
                    "asyncio.create_task of that,"
                )

    def _ordered_task(
        self, given: object, coro: Any, name: str | None, context: contextvars.Context | None
    ) -> HandlerTask[Any]:
        """`asyncio.as_completed` starts coroutines in the order of a set; start them in that of the caller's list."""
        found = self._ordered.pop(id(coro), None)
        if found is not None:
            return found
        if not isinstance(given, (list, tuple)):
            self.refuse(
                "called asyncio.as_completed with something else than a list or tuple, so that the order of its "
                "coroutines is lost; pass a list"
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


Outer: TypeAlias = tuple[asyncio.AbstractEventLoop | None, Any]


def enter_loop(loop: HandlerLoop) -> Outer:
    """Make `loop` the running one, which also finishes async generators; what it gives is for `leave_loop`."""
    outer = _get_running_loop(), sys.get_asyncgen_hooks()
    _set_running_loop(loop)
    sys.set_asyncgen_hooks(firstiter=None, finalizer=loop.finish)
    return outer


def leave_loop(outer: Outer) -> None:
    """Make the loop from before `enter_loop` the running one again."""
    _set_running_loop(outer[0])
    sys.set_asyncgen_hooks(*outer[1])


class running:  # noqa: N801  # a context manager; a class costs a third of what a generator does
    """Make `loop` the running one; afterwards the one before it runs again."""

    __slots__ = ("_loop", "_outer")
    _outer: Outer

    def __init__(self, loop: HandlerLoop) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        self._outer = enter_loop(self._loop)

    def __exit__(self, *_error: object) -> None:
        leave_loop(self._outer)


def label_of_handler(frame: FrameType) -> str | None:
    """How messages name the handler that this frame drives, for whoever looks at a stack; None: another frame."""
    if frame.f_code is HandlerLoop.drain.__code__:
        loop = frame.f_locals["self"]
    elif frame.f_code is RootTask._drive.__code__:  # noqa: SLF001  # of this package
        loop = frame.f_locals["self"].get_loop()
    else:
        return None
    host = loop.host
    return None if host is None else host.label
