"""Tasks and futures of a handler's loop.

T1  They hash by a number given in program order: asyncio keeps tasks in sets, and a set of objects that hash by their
    address is iterated in another order in every process.
T2  The first turn of a handler runs without an `asyncio.Task`: `RootTask` is the few methods of a task that asyncio's
    combinators call on the current one, at a quarter of the cost.
"""

from __future__ import annotations

import asyncio
import contextvars
import types
from asyncio import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from typing import Any, TypeVar

from streamstate.errors import ForeignAwaitError

T = TypeVar("T")

_ENDED = object()  # what the driver yields when its handler has ended


class HandlerFuture(asyncio.Future[T]):
    """A future of a handler's loop."""

    __slots__ = ("number",)
    number: int

    def __hash__(self) -> int:
        return self.number


class HandlerTask(asyncio.Task[T]):
    """A task of a handler's loop."""

    number: int = 0

    def __init__(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        loop: asyncio.AbstractEventLoop,
        number: int,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> None:
        # Before the constructor of Task, which puts the task into a set.
        self.number = number
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self.number


class RootTask:
    """The task of the handler itself. Cancellation counts like that of `asyncio.Task`.

    It drives the handler through a generator that never ends, and so serves one handler after the other: the end of a
    coroutine that is awaited costs nothing, that of one which is sent to costs an exception.

    Attributes:
        is_done: the handler has ended. result, exception: how.
        waiter: the future that it awaits.
    """

    # One is used for every event, and most end in their first step: slots for those, defaults in the class for the rest.
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
        "result",
    )
    waiter: asyncio.Future[Any] | None = None
    _cancel_requests = 0
    _must_cancel = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._driver = self._drive()
        self._send = self._driver.send
        self.result: Any = None
        self.exception: BaseException | None = None

    def enter(self) -> None:
        """Be the current task of the loop: `start` only runs then."""
        _enter_task(self._loop, self)  # type: ignore[arg-type]  # the current task by duck type, see T2

    def leave(self) -> None:
        """Be the current task no more."""
        _leave_task(self._loop, self)  # type: ignore[arg-type]  # as above

    def start(self, handler: Coroutine[Any, Any, Any]) -> None:
        """Run the handler, in a context of its own, until it awaits something that is not ready, or ends.

        `result` and `exception` must be None: either the task is new, or its last handler returned nothing.
        """
        self._handler = handler
        self._context = context = copy_context()
        self.is_done = False
        awaited = context.run(self._send, None)
        if awaited is not _ENDED:
            context.run(self._block_on, awaited)

    @types.coroutine
    def _drive(self) -> Generator[Any, None, None]:
        while True:
            try:
                self.result = yield from self._handler.__await__()
            except (GeneratorExit, KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001  # kept: it is the handler's outcome
                self.exception = error
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
        if awaited is not _ENDED:
            self._block_on(awaited)

    def close(self) -> None:
        """Drop the handler where it stands.

        Raises:
            RuntimeError: it awaits something while it is being dropped.
        """
        self._driver.close()

    def _block_on(self, awaited: Any) -> None:
        if awaited is None:
            self._loop.call_soon(self._step, context=self._context)
        elif getattr(awaited, "_asyncio_future_blocking", None) is None or awaited.get_loop() is not self._loop:
            error = ForeignAwaitError(f"a handler awaited {awaited!r}")
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
        if self.waiter is None or not self.waiter.cancel(msg):
            self._must_cancel = True
        return True

    def cancelling(self) -> int:
        return self._cancel_requests

    def uncancel(self) -> int:
        self._cancel_requests = max(0, self._cancel_requests - 1)
        return self._cancel_requests

    def get_coro(self) -> Coroutine[Any, Any, Any]:
        return self._handler

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def get_name(self) -> str:
        return "handler"

    def get_context(self) -> contextvars.Context:
        return self._context
