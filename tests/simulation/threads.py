"""What other threads would do, done on the simulation's own: commits and sync actions, which take their time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from streamstate.storage import Batch
from tests.simulation.plans import Fault, Run

if TYPE_CHECKING:
    from tests.simulation.world import World

RETURN_S_MAX = 0.003  # between the end of the work and the moment the loop hears of it
SLOW_COMMIT_S = 0.4


class Threads:
    """Those of one process.

    Attributes:
        armed: faults that wait for a commit. is_writing: a commit is under way.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.armed: list[Fault] = []
        self.is_writing = False

    def run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> asyncio.Future[Any]:
        """What `run_in_executor` of the loop does."""
        loop = self._world.loop
        future: asyncio.Future[Any] = loop.create_future()
        if args and isinstance(args[0], Batch):
            self.is_writing = True
            loop.call_later(self._commit_s(), self._write, future, function, args[0])
            return future
        run = function.args[-1] if isinstance(function, partial) else None
        delay_s = run.ms / 1000 if isinstance(run, Run) else 0.0
        loop.call_later(delay_s, self._act, future, function, args)
        return future

    def _commit_s(self) -> float:
        """Mostly quick, at times long: then turns pile up behind it."""
        world, rng = self._world, self._world.rng
        scale = SLOW_COMMIT_S if world.loop.now_s < world.slow_until_s else world.plan.commit_ms / 1000
        return scale * rng.random() * (20 if rng.random() < 0.05 else 1)

    def _write(self, future: asyncio.Future[None], commit: Callable[[Batch], None], batch: Batch) -> None:
        world = self._world
        fault = next((fault for fault in self.armed if fault.n <= world.audit.commits), None)
        if fault is not None:
            self.armed.remove(fault)
            if fault.kind == "crash_before":
                world.crash(fault)
                return
            if fault.kind == "commit_error":
                world.witness.count(fault.kind)
                future.set_exception(OSError("planned: no commit"))
                world.loop.call_later(0.05, world.crash, fault)
                return
        if len(batch.journal) > 1 or len(batch.state) > 1:
            world.witness.count("commits of several turns")
        if world.engine.core.spilled:
            world.witness.count("queues spilled")
        commit(batch)
        if fault is not None:
            world.crash(fault)
            return
        world.loop.call_later(world.rng.random() * RETURN_S_MAX, self._written, future)

    def _written(self, future: asyncio.Future[None]) -> None:
        self.is_writing = False
        future.set_result(None)

    def _act(self, future: asyncio.Future[Any], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if future.cancelled():
            return
        error: Exception | None = None
        result = None
        try:
            result = function(*args)
        except Exception as raised:  # noqa: BLE001  # handed on, as a pool of threads does
            error = raised
        self._world.loop.call_later(self._world.rng.random() * RETURN_S_MAX, _tell, future, result, error)


def _tell(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
