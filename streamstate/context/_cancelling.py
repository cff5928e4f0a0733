"""Cancellation: told once, to what the handler's tasks await, in the order of the tasks."""

from __future__ import annotations

import asyncio
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
    for task in (loop.root, *loop.live_tasks()):
        waiter = task.waiter if isinstance(task, RootTask) else task._fut_waiter  # type: ignore[attr-defined]  # noqa: SLF001  # asyncio has no public way
        if waiter is None or waiter.done() or isinstance(waiter, asyncio.Task) or _awaits_group(task):
            continue
        waiter.set_exception(cancelled())


def _awaits_group(task: Any) -> bool:
    """True for a task that waits in `TaskGroup.__aexit__`: its children are told, and they tell it."""
    awaited = task.get_coro()
    while (inner := getattr(awaited, "cr_await", None)) is not None:
        awaited = inner
        if getattr(awaited, "cr_code", None) is asyncio.TaskGroup.__aexit__.__code__:
            return True
    return False
