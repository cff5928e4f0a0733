"""Tasks and futures of a handler's loop.

T1  They hash by a number given in program order: asyncio keeps tasks in sets, and a set of objects that hash by their
    address is iterated in another order in every process. A future gets its number when it is first asked for, since
    most never are.
T2  The first turn of a handler runs without an `asyncio.Task`: `RootTask` is the few methods of a task that asyncio's
    combinators call on the current one, at a quarter of the cost.
T3  What is not of the handler's loop cannot be awaited, and that cannot be hidden by catching the refusal.
"""

from __future__ import annotations

import asyncio
import contextvars
import types
from asyncio import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from typing import Any, TypeVar

from streamstate.context._refusals import RefusingLoop
from streamstate.errors import ForeignAwaitError

T = TypeVar("T")

# What the driver yields when its handler has ended; the second when it returned nothing, as most do.
_ENDED, _ENDED_EMPTY = object(), object()


class HandlerFuture(asyncio.Future[T]):
    """A future of a handler's loop."""

    __slots__ = ("_number",)
    _number: int

    def __hash__(self) -> int:
        try:
            return self._number
        except AttributeError:
            self._number = self.get_loop().next_number()  # type: ignore[attr-defined]  # a HandlerLoop
            return self._number


def is_foreign(awaited: Any, loop: asyncio.AbstractEventLoop) -> bool:
    """True for what a task of this loop cannot wait for; None is a bare `yield`."""
    if awaited is None:
        return False
    return getattr(awaited, "_asyncio_future_blocking", None) is None or awaited.get_loop() is not loop


class _Guarded(Coroutine[Any, Any, T]):
    """T3 for a task's coroutine: asyncio's own refusal is an error that the handler could catch and hide."""

    __slots__ = ("_coro", "_loop", "_refusal")

    def __init__(self, coro: Coroutine[Any, Any, T], loop: RefusingLoop) -> None:
        self._coro = coro
        self._loop = loop
        self._refusal: ForeignAwaitError | None = None

    def send(self, value: Any) -> Any:
        refusal, self._refusal = self._refusal, None
        return self._checked(self._coro.send(value) if refusal is None else self._coro.throw(refusal))

    def throw(self, *error: Any) -> Any:
        return self._checked(self._coro.throw(*error))

    def close(self) -> None:
        self._coro.close()

    def __getattr__(self, name: str) -> Any:
        # Its name, code and frame, for whoever shows the task.
        return getattr(self._coro, name)

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coro.__await__()

    def _checked(self, awaited: Any) -> Any:
        if not is_foreign(awaited, self._loop):
            return awaited
        # By way of the ready queue, whose length is bounded, and not here, where a handler might try for ever.
        self._refusal = self._loop.violate(f"awaited {awaited!r}")
        return None


class HandlerTask(asyncio.Task[T]):
    """A task of a handler's loop.

    Attributes:
        context: the context variables that its coroutine sees.
    """

    def __init__(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        loop: RefusingLoop,
        number: int,
        name: str,
        context: contextvars.Context | None = None,
    ) -> None:
        if not asyncio.iscoroutine(coro):
            raise TypeError(f"a coroutine was expected, got {coro!r}")
        # Before the constructor of Task, which puts the task into a set.
        self._number = number
        self._inner = coro
        self.context = copy_context() if context is None else context
        super().__init__(_Guarded(coro, loop), loop=loop, name=name, context=self.context)

    def get_coro(self) -> Any:
        return self._inner

    def __hash__(self) -> int:
        return self._number


class RootTask:
    """The task of the handler itself. Cancellation counts like that of `asyncio.Task`.

    It drives the handler through a generator that never ends, and so serves one handler after the other: the end of a
    coroutine that is awaited costs nothing, that of one which is sent to costs an exception.

    Attributes:
        is_done: no handler runs; the last one has ended. exception: how, unless it returned; see `take_result`.
        waiter: the future that it awaits. was_cancelled: there was a `cancel`, so that it can serve no other handler.
    """

    # One is used for every event, and most end in their first step: slots for those, and for the rest defaults in the
    # class.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_context",
        "_driver",
        "_handler",
        "_loop",
        "_send",
        "exception",
        "is_done",
    )
    waiter: asyncio.Future[Any] | None = None
    was_cancelled = False
    _cancel_requests = 0
    _must_cancel = False
    _result: Any = None

    def __init__(self, loop: RefusingLoop) -> None:
        self._loop = loop
        self._driver = self._drive()
        self._send = self._driver.send
        self.is_done = True
        self.exception: BaseException | None = None

    def enter(self) -> None:
        """Be the current task of the loop: `start` only runs then."""
        _enter_task(self._loop, self)  # type: ignore[arg-type]  # the current task by duck type, see T2

    def leave(self) -> None:
        """Be the current task no more."""
        _leave_task(self._loop, self)  # type: ignore[arg-type]  # as above

    def start(self, handler: Coroutine[Any, Any, Any]) -> bool:
        """Run the handler, in a context of its own, until it awaits something that is not ready, or ends.

        True when it has ended and returned nothing. The task must be new, or the result of its last handler taken.
        """
        self._handler = handler
        self._context = context = copy_context()
        self.is_done = False
        awaited = context.run(self._send, None)
        if awaited is _ENDED_EMPTY:
            return True
        if awaited is not _ENDED:
            context.run(self._block_on, awaited)
        return False

    def take_result(self) -> Any:
        """What the handler returned; None from then on."""
        result, self._result = self._result, None
        return result

    @types.coroutine
    def _drive(self) -> Generator[Any, None, None]:
        while True:
            try:
                # Not its `__await__`, whose wrapper costs as much as the switch: what `types.coroutine` is for.
                result = yield from self._handler
            except (GeneratorExit, KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001  # kept: it is the handler's outcome
                self.exception = error
            else:
                if result is None:
                    self.is_done = True
                    yield _ENDED_EMPTY
                    continue
                self._result = result
            self.is_done = True
            yield _ENDED

    def _step(self, error: BaseException | None = None) -> None:
        # Called inside `_context`, by callbacks that were given it.
        if self._must_cancel:
            self._must_cancel = False
            error = asyncio.CancelledError()
        self.waiter = None
        self.enter()
        try:
            awaited = self._send(None) if error is None else self._driver.throw(error)
        finally:
            self.leave()
        if awaited is not _ENDED and awaited is not _ENDED_EMPTY:
            self._block_on(awaited)

    def close(self) -> None:
        """Drop the handler where it stands.

        Raises:
            RuntimeError: it awaits something while it is being dropped; it is not closed yet.
        """
        # The handler itself first: the driver would take its refusal to be closed for its end.
        self._handler.close()
        self._driver.close()

    def let_go(self) -> None:
        """Drive nothing any more: the driver refers to this task, and the other way round."""
        self._driver.close()

    def _block_on(self, awaited: Any) -> None:
        if awaited is None:
            self._loop.call_soon(self._step, context=self._context)
        elif is_foreign(awaited, self._loop):
            error = self._loop.violate(f"awaited {awaited!r}")
            self._loop.call_soon(self._step, error, context=self._context)
        else:
            awaited._asyncio_future_blocking = False  # noqa: SLF001  # the protocol between futures and tasks
            awaited.add_done_callback(self._wake, context=self._context)
            self.waiter = awaited
            if self._must_cancel and awaited.cancel():
                self._must_cancel = False

    def _wake(self, future: asyncio.Future[Any]) -> None:
        try:
            future.result()
        except BaseException as error:  # noqa: BLE001  # thrown into the handler, which awaits it
            self._step(error)
        else:
            self._step()

    def done(self) -> bool:
        return self.is_done

    def cancel(self, msg: object = None) -> bool:
        if self.is_done:
            return False
        self._cancel_requests += 1
        self.was_cancelled = self._loop.is_touched = True
        if self.waiter is None or not self.waiter.cancel(msg):
            self._must_cancel = True
        return True

    def cancelling(self) -> int:
        return self._cancel_requests

    def uncancel(self) -> int:
        self._cancel_requests = max(0, self._cancel_requests - 1)
        return self._cancel_requests

    def get_coro(self) -> Coroutine[Any, Any, Any] | None:
        return getattr(self, "_handler", None)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def get_name(self) -> str:
        return "handler"

    def get_context(self) -> contextvars.Context:
        return self._context
