"""Runs the actions of steps: async ones on the application's loop, sync ones in its threads (I3)."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from types import FrameType
from typing import Any

from streamstate.context import Action, failure_of
from streamstate.journal import Outcome, Success


class Steps:
    """Actions that run now.

    Args:
        threads: for sync actions; None is the loop's own pool.
        finished: is told (invocation, index, outcome or the exception of a failed attempt).
    """

    def __init__(self, threads: Executor | None, finished: Callable[[str, int, Outcome | BaseException], None]) -> None:
        self._threads = threads
        self._finished = finished
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, invocation: str, index: int, action: Action) -> None:
        # A context of its own: what a handler set in its context variables is no business of the action's.
        task = asyncio.get_running_loop().create_task(
            self._perform(invocation, index, action), context=contextvars.Context(), name=f"step {action.step.name}"
        )
        self._tasks[invocation, index] = task

    def abandon(self, invocation: str) -> None:
        """Nobody wants the results any more: async actions are cancelled, threads run on unheard."""
        for key in [key for key in self._tasks if key[0] == invocation]:
            self._tasks.pop(key).cancel()

    async def close(self) -> None:
        """Cancel what still runs; it will run again at the next start."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _perform(self, invocation: str, index: int, action: Action) -> None:
        result: Outcome | BaseException
        try:
            result = Success(action.encode(await self._call(action)))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            result = error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # an attempt's failure, whatever it is, is told and retried
            result = error
            if not isinstance(error, TimeoutError | BaseExceptionGroup):
                result = failure_of(error) or error
        if self._tasks.pop((invocation, index), None) is not None:
            self._finished(invocation, index, result)

    async def _call(self, action: Action) -> Any:
        if _is_async(action.function):
            return await action.function(*action.args, **action.kwargs)
        call = functools.partial(action.function, *action.args, **action.kwargs)
        result = await asyncio.get_running_loop().run_in_executor(self._threads, call)
        return await result if inspect.isawaitable(result) else result


def label_of_step(frame: FrameType) -> str | None:
    """How messages name the step whose action this frame runs on the loop, or None: another frame."""
    if frame.f_code is not Steps._call.__code__:  # noqa: SLF001  # of this module
        return None
    action: Action = frame.f_locals["action"]
    return f"step {action.step.name!r}"


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  # the method, not callability
