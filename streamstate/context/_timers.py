"""The durable timers of a handler: what asyncio.sleep, asyncio.timeout and call_later come to."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from streamstate.errors import UsageError

TIMER_S_MAX = timedelta.max.total_seconds()  # about 2.7 million years; more has no number of milliseconds in a store


class Timers:
    """Timers that wait, by the index of their command."""

    __slots__ = ("_handles", "_indexes")

    def __init__(self) -> None:
        self._handles: dict[int, asyncio.TimerHandle] = {}
        # By id: handles compare by their moment and callback.
        self._indexes: dict[int, int] = {}

    def add(self, index: int, handle: asyncio.TimerHandle) -> None:
        self._handles[index] = handle
        self._indexes[id(handle)] = index

    def fire(self, index: int) -> asyncio.TimerHandle | None:
        """The timer of this command, which waits no more; None if there is none."""
        handle = self._handles.pop(index, None)
        if handle is not None:
            del self._indexes[id(handle)]
        return handle

    def cancel(self, handle: asyncio.TimerHandle) -> int | None:
        """The command of this timer, which waits no more; None if it has fired."""
        index = self._indexes.pop(id(handle), None)
        if index is not None:
            del self._handles[index]
        return index


def milliseconds_until(when_s: float) -> int:
    """The moment of a timer in milliseconds.

    Raises:
        UsageError: for ever, or not a number.
    """
    if not abs(when_s) <= TIMER_S_MAX:
        raise UsageError(
            f"a timer cannot wait for {when_s} seconds; to wait until something happens, await ctx.awakeable(…) or "
            "ctx.signal(…)"
        )
    return round(when_s * 1000)
