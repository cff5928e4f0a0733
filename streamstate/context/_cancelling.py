"""Cancellation: told once, to what the handler's tasks await, in the order of the tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from streamstate.context._loop import HandlerLoop
from streamstate.context._tasks import RootTask
from streamstate.errors import CancelledError


def cancelled() -> CancelledError:
    """What a cancelled handler gets."""
    return CancelledError("the invocation was cancelled")


def cancel_waiters(loop: HandlerLoop) -> None:
    """Raise in every task that awaits something of its own; one that awaits another task hears it from that one."""
    if loop.root is None:
        return
    tasks = loop.live_tasks()
    joins = {id(join) for task in tasks for join in _joins(task)}
    for task in (loop.root, *tasks):
        waiter = task.waiter if isinstance(task, RootTask) else task._fut_waiter  # type: ignore[attr-defined]  # noqa: SLF001  # asyncio has no public way
        if waiter is None or waiter.done() or isinstance(waiter, asyncio.Task) or id(waiter) in joins:
            continue
        waiter.set_exception(cancelled())


def _joins(task: Any) -> Iterator[object]:
    """What waits at the end of the task's group: its children are told of the cancel, and they tell it."""
    for callback, _ in task._callbacks or ():  # noqa: SLF001  # asyncio has no public way
        group = getattr(callback, "__self__", None)
        if isinstance(group, asyncio.TaskGroup):
            yield group._on_completed_fut  # type: ignore[attr-defined]  # noqa: SLF001  # as above
