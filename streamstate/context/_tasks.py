"""Tasks and futures of a handler's loop.

T1  They hash by a number given in program order: asyncio keeps tasks in sets, and a set of objects that hash by their
    address is iterated in another order in every process.
T2  The first turn of a handler runs without an `asyncio.Task`: `RootTask` is the few methods of a task that asyncio's
    combinators call on the current one, at a quarter of the cost.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from streamstate.errors import ForeignAwaitError

T = TypeVar("T")


class HandlerFuture(asyncio.Future[T]):
    """A future of a handler's loop."""

    number: int = 0

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
    """The task of the handler itself. Cancellation counts like `asyncio.Task`'s (PEP 789, asyncio.timeout)."""

    __slots__ = (
        "__weakref__",
        "_cancel_requests",
        "_context",
        "_coro",
        "_exception",
        "_is_done",
        "_loop",
        "_must_cancel",
        "_result",
        "_waiter",
    )

    def __init__(self, coro: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> None:
        self._coro = coro
        self._loop = loop
        self._context = contextvars.copy_context()
        self._waiter: asyncio.Future[Any] | None = None
        self._cancel_requests = 0
        self._must_cancel = False
        self._is_done = False
        self._result: Any = None
        self._exception: BaseException | None = None

    def start(self) -> None:
        """Run the handler, in a context of its own, until it awaits something that is not ready, or ends."""
        self._context.run(self._step)

    def _step(self, error: BaseException | None = None) -> None:
        # Called inside `_context`: by `start`, and by callbacks that were given it.
        if self._must_cancel:
            self._must_cancel = False
            error = asyncio.CancelledError()
        self._waiter = None
        _enter_task(self._loop, self)  # type: ignore[arg-type]  # the current task by duck type, see T2
        try:
            if error is None:
                awaited = self._coro.send(None)
            else:
                awaited = self._coro.throw(error)
        except StopIteration as stop:
            self._is_done = True
            self._result = stop.value
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as raised:  # noqa: BLE001  # kept: it is the handler's outcome
            self._is_done = True
            self._exception = raised
        else:
            self._block_on(awaited)
        finally:
            _leave_task(self._loop, self)  # type: ignore[arg-type]  # as above

    def _block_on(self, awaited: Any) -> None:
        if awaited is None:
            self._loop.call_soon(self._step, context=self._context)
        elif getattr(awaited, "_asyncio_future_blocking", None) is None or awaited.get_loop() is not self._loop:
            error = ForeignAwaitError(f"a handler awaited {awaited!r}")
            self._loop.call_soon(self._step, error, context=self._context)
        else:
            awaited._asyncio_future_blocking = False  # noqa: SLF001  # the protocol between futures and tasks
            awaited.add_done_callback(self._wake, context=self._context)
            self._waiter = awaited
            if self._must_cancel and awaited.cancel():
                self._must_cancel = False

    def _wake(self, future: asyncio.Future[Any]) -> None:
        try:
            future.result()
        except BaseException as error:  # noqa: BLE001  # thrown into the handler, which awaits it
            self._step(error)
        else:
            self._step()

    def outcome(self) -> Any:
        """What the handler returned; raises what it raised."""
        if self._exception is not None:
            raise self._exception
        return self._result

    @property
    def waiter(self) -> asyncio.Future[Any] | None:
        """What the handler awaits."""
        return self._waiter

    def done(self) -> bool:
        return self._is_done

    def cancel(self, msg: object = None) -> bool:
        if self._is_done:
            return False
        self._cancel_requests += 1
        if self._waiter is None or not self._waiter.cancel(msg):
            self._must_cancel = True
        return True

    def cancelling(self) -> int:
        return self._cancel_requests

    def uncancel(self) -> int:
        self._cancel_requests = max(0, self._cancel_requests - 1)
        return self._cancel_requests

    def get_coro(self) -> Coroutine[Any, Any, Any]:
        return self._coro

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def get_name(self) -> str:
        return "handler"

    def get_context(self) -> contextvars.Context:
        return self._context
