"""The engine's clock: monotonic while it runs, and never behind the last durable moment.

Timers are measured against it, so a wall clock that jumps neither fires them early nor purges anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Tells the time and wakes the engine."""

    def start(self, not_before_ms: int) -> None:
        """Begin; the clock never shows less than `not_before_ms`."""
        ...

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        ...

    def wake_at(self, when_ms: int | None, callback: Callable[[], None]) -> None:
        """Call back once at this moment, or never; replaces the moment asked for before."""
        ...


class SystemClock:
    """The machine's clock, made monotonic."""

    def __init__(self) -> None:
        self._base_ms = 0
        self._started_s = 0.0
        self._loop: asyncio.AbstractEventLoop
        self._handle: asyncio.TimerHandle | None = None

    def start(self, not_before_ms: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._base_ms = max(time.time_ns() // 1_000_000, not_before_ms)
        self._started_s = time.monotonic()

    def now_ms(self) -> int:
        return self._base_ms + int((time.monotonic() - self._started_s) * 1000)

    def wake_at(self, when_ms: int | None, callback: Callable[[], None]) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if when_ms is not None:
            # One more millisecond, since now_ms rounds down and a timer must not be looked at too early.
            delay_s = max(0, when_ms - self.now_ms() + 1) / 1000
            self._handle = self._loop.call_later(delay_s, callback)
