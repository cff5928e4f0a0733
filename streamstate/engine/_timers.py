"""Durable timers in memory: a heap over what the store holds (I6)."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from streamstate.engine._clock import Clock
from streamstate.storage import Store, TimerId, TimerRow

_PAGE = 10_000


class Timers:
    """All timers, by the moment they fire at."""

    def __init__(self, clock: Clock, due: Callable[[], None]) -> None:
        self._clock = clock
        self._due = due
        self._heap: list[tuple[int, str, str, int, int]] = []
        self._cancelled: set[TimerId] = set()
        self._asked_ms: int | None = None

    def __len__(self) -> int:
        return len(self._heap) - len(self._cancelled)

    def load(self, store: Store) -> None:
        """Read all timers of the store."""
        after: tuple[int, str, str, int] | None = None
        while page := store.timers(after, _PAGE):
            self._heap.extend((row.fire_ms, row.invocation, row.kind, row.index, row.attempt) for row in page)
            last = page[-1]
            after = (last.fire_ms, last.invocation, last.kind, last.index)
        heapq.heapify(self._heap)
        self._ask()

    def add(self, row: TimerRow) -> None:
        if row.id in self._cancelled:
            # Set again while its cancelled twin is still there, which is rare: the twin must not fire in its place.
            self._heap = [each for each in self._heap if each[1:4] != row.id]
            heapq.heapify(self._heap)
            self._cancelled.discard(row.id)
        heapq.heappush(self._heap, (row.fire_ms, row.invocation, row.kind, row.index, row.attempt))
        if self._asked_ms is None or row.fire_ms < self._asked_ms:
            self._ask()

    def cancel(self, timer: TimerId) -> None:
        """The timer must be in the heap."""
        self._cancelled.add(timer)

    def of(self, invocation: str) -> list[TimerId]:
        """The timers of one invocation; looks at all, so only for what a person does."""
        ids = [(owner, kind, index) for _fire_ms, owner, kind, index, _attempt in self._heap if owner == invocation]
        return [each for each in ids if each not in self._cancelled]

    def pop_due(self) -> TimerRow | None:
        """The next timer whose moment has come."""
        heap = self._heap
        now_ms = self._clock.now_ms()
        while heap and heap[0][0] <= now_ms:
            row = TimerRow(*heapq.heappop(heap))
            if row.id in self._cancelled:
                self._cancelled.discard(row.id)
            else:
                return row
        self._ask()
        return None

    def next_ms(self) -> int | None:
        """The moment of the next timer."""
        heap = self._heap
        while heap and (key := (heap[0][1], heap[0][2], heap[0][3])) in self._cancelled:
            self._cancelled.discard(key)
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def _ask(self) -> None:
        self._asked_ms = self.next_ms()
        self._clock.wake_at(self._asked_ms, self._due)
