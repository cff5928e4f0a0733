"""What both sides of `steps` run, and how a caller's time is counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

SERVICE, STATE = "Account", "charged"


async def charge(amount: int) -> int:
    """The action of the step: what it costs is not the subject."""
    return amount + 1


class Stopwatch:
    """Counts wall time, processor time and the time of each call."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []
        self._cpu_s = time.process_time()
        self._started_s = time.perf_counter()

    async def repeat(self, calls: int, call: Callable[[int], Awaitable[object]]) -> None:
        """One caller: the next call when the one before is answered."""
        for number in range(calls):
            began_s = time.perf_counter()
            await call(number)
            self.waits_s.append(time.perf_counter() - began_s)

    def figures(self, steps: int) -> dict[str, float]:
        """Of everything since the beginning."""
        elapsed_s = time.perf_counter() - self._started_s
        waits = sorted(self.waits_s) or [0.0]
        return {
            "steps_per_s": steps / elapsed_s,
            "cpu_us": (time.process_time() - self._cpu_s) / steps * 1e6,
            "p50_ms": waits[len(waits) // 2] * 1000,
            "p99_ms": waits[len(waits) * 99 // 100] * 1000,
        }


async def call_from_all(callers: int, calls: int, call: Callable[[str, int], Awaitable[object]]) -> dict[str, float]:
    """So many callers at once, each with a key of its own."""
    watch = Stopwatch()

    async def caller(key: str) -> None:
        await watch.repeat(calls, lambda number: call(key, number))

    await asyncio.gather(*(caller(key_of(number)) for number in range(callers)))
    return watch.figures(callers * calls)


def key_of(number: int) -> str:
    return f"account-{number}"
