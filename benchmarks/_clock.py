"""A clock that a benchmark moves, as far as it likes at once."""

from __future__ import annotations

from collections.abc import Callable


class SteppedClock:
    """Stands still until it is set; a `Clock` of the engine."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._wake_ms: int | None = None
        self._callback: Callable[[], None] | None = None

    def start(self, not_before_ms: int) -> None:
        self._now_ms = max(self._now_ms, not_before_ms)

    def now_ms(self) -> int:
        return self._now_ms

    def wake_at(self, when_ms: int | None, callback: Callable[[], None]) -> None:
        self._wake_ms, self._callback = when_ms, callback

    def set(self, now_ms: int) -> None:
        """It is later now; who asked to be woken until then is."""
        self._now_ms = max(self._now_ms, now_ms)
        if self._wake_ms is not None and self._wake_ms <= self._now_ms and self._callback is not None:
            self._wake_ms = None
            self._callback()
