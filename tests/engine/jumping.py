"""An event loop whose waits take no time, for the pauses that are not measured by the engine's clock."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    """Does not wait for a timer, but says how long it would have."""

    jumped_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout:
            self.jumped_s += timeout
            timeout = 0
        return super().select(timeout)


class JumpingLoop(asyncio.SelectorEventLoop):
    """A real loop, with threads and files, on which `asyncio.sleep` returns at once and time has passed."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return super().time() + self._jumping.jumped_s

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.run_until_complete(work)

    def spin(self, rounds: int) -> None:
        """Let what is ready go on for so many rounds of the loop."""

        async def wait() -> None:
            for _ in range(rounds):
                await asyncio.sleep(0)

        self.run(wait())

    def finish(self) -> None:
        """Cancel what is left, and close."""

        async def cancel() -> None:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

        self.run(cancel())
        self.close()
