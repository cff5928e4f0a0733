"""A clock that a test moves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualClock:
    """Stands still until it is advanced; durable timers fire when their moment is reached, each at its own.

    Args:
        now: the first moment, with its time zone.
    """

    def __init__(self, now: datetime = _EPOCH) -> None:
        self._now_ms = int(now.timestamp() * 1000)
        self._wake_ms: int | None = None
        self._callback: Callable[[], None] | None = None
        self._idle: Callable[[], Awaitable[None]] | None = None

    def attach(self, idle: Callable[[], Awaitable[None]]) -> None:
        """Let `advance` wait for the engine between two timers."""
        self._idle = idle

    def start(self, not_before_ms: int) -> None:
        self._now_ms = max(self._now_ms, not_before_ms)

    def now_ms(self) -> int:
        return self._now_ms

    def now(self) -> datetime:
        """The present moment, in UTC."""
        return datetime.fromtimestamp(self._now_ms / 1000, UTC)

    def wake_at(self, when_ms: int | None, callback: Callable[[], None]) -> None:
        self._wake_ms = when_ms
        self._callback = callback

    async def advance(self, duration: timedelta) -> None:
        """Let time pass, and everything that becomes due happen at its moment.

        Raises:
            ValueError: the duration is negative; a clock does not go back.
        """
        if duration < timedelta():
            raise ValueError(f"a clock does not go back: {duration}")
        end_ms = self._now_ms + round(duration / timedelta(milliseconds=1))
        await self._settle()
        while self._wake_ms is not None and self._wake_ms <= end_ms:
            self._now_ms = max(self._now_ms, self._wake_ms)
            callback, self._wake_ms = self._callback, None
            if callback is not None:
                callback()
            await self._settle()
        self._now_ms = end_ms

    async def _settle(self) -> None:
        if self._idle is not None:
            await self._idle()
