"""The end of a run: without faults everything ends (I9), and past all retention nothing of it is left (I12)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streamstate.storage import InvocationRow, Status
from tests.simulation.handlers import RETENTION, TARGETS
from tests.simulation.plans import Promise, Script, all_scripts

if TYPE_CHECKING:
    from tests.simulation.world import World

SETTLE_S = 600.0  # without faults, everything ends within this
FORGET_S = RETENTION.total_seconds() + 130  # the longest retention, and two rounds of the purge
PROMISES = ("p0", "p1")


class Ending:
    """Brings a run to its end; a process that is stopped before leaves it to the next one."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._told: list[str] = []

    async def settle(self) -> None:
        """When everything of the plan has happened: let it end, and look."""
        world = self._world
        moments = [each.at_ms for each in world.plan.inputs] + [fault.at_ms for fault in world.plan.faults]
        horizon_s = max(moments, default=0) / 1000
        await asyncio.sleep(max(0.0, horizon_s - world.loop.now_s))
        while world.faults:  # noqa: ASYNC110  # virtual time, and the faults are plain data
            await asyncio.sleep(1)
        world.threads.armed.clear()
        deadline_s = world.loop.now_s + SETTLE_S
        await asyncio.sleep(2)
        while not self._is_done():
            if world.loop.now_s > deadline_s:
                waiting = [*world.audit.unfinished(), *world.clients.waiting()]
                world.witness.violate("I9", f"not ended {SETTLE_S:.0f} s after the last fault: {waiting}")
            if world.has_said_enough or world.loop.now_s > deadline_s:
                world.end()
                return
            if not world.is_stopping:
                self._open_promises()
                for paused in [row for row in self._unfinished() if row.status is Status.PAUSED]:
                    if world.engine.core.load(paused.id) is not None:  # it may have ended a moment ago
                        world.engine.operations.resume(paused.id)
            await asyncio.sleep(1)
        await self._forget()

    def _open_promises(self) -> None:
        """Complete what nobody in the plan completes."""
        world = self._world
        ops = tuple(Promise(str(n), name, "resolve") for n, name in enumerate(PROMISES))
        for key in sorted({row.key for row in self._unfinished() if row.service == "Flow"}):
            if any(("Flow", key, name) not in world.content.promises for name in PROMISES):
                self._told.append(key)
                script = Script(f"end{len(self._told)}", ops)
                world.spawn(world.client.send(TARGETS["tell"], script, key=key))

    def _unfinished(self) -> list[InvocationRow]:
        return [row for row in self._world.content.invocations.values() if row.status is not Status.COMPLETED]

    def _is_done(self) -> bool:
        world = self._world
        return (
            all(source.is_drained for source in world.topics.sources)
            and not self._unfinished()
            and not world.witness.owed
            and not world.clients.waiting()
            and world.engine.is_idle
            and not any(world.content.outbox.values())
        )

    async def _forget(self) -> None:
        """I12: past all retention, nothing is left but the state of objects."""
        world = self._world
        world.witness.note("all ended")
        for service, slots in list(world.engine.core.keys.services.items()):
            for key in list(slots):
                memory, disk = world.engine.object_state(service, key), world.content.state.get((service, key), {})
                if memory != disk:
                    world.witness.violate("I5", f"{service}/{key} is {memory} in memory and {disk} on disk")
        await asyncio.sleep(FORGET_S)
        for name, what in self._left().items():
            if what:
                world.witness.violate("I12", f"left when all is over, {name}: {what}")
        await world.engine.stop()
        world.end()

    def _left(self) -> dict[str, object]:
        """What there is on disk and in memory that should be gone."""
        content, core = self._world.content, self._world.engine.core
        # Who completes a promise of a workflow that is over, or never was, leaves it behind.
        told = {*self._told} | {key for _, to, key, _ in all_scripts(self._world.plan) if to == "tell"}
        slots = [slot for slots in core.keys.services.values() for slot in slots.values()]
        names = ("invocations", "journal", "timers", "waiters", "lanes", "_awaited_by")
        return {
            **{name: getattr(content, name) for name in names},
            "outbox": [messages for messages in content.outbox.values() if messages],
            "promises": [promise for promise in content.promises if promise[1] not in told],
            "invocations in memory": [*core.live, *core.work, *core.undelivered, *core.ended, *core.spilled],
            "replies": core.replies,
            "refills": core.refills,
            "waiters in memory": {name: each for name, each in core.waits._waiters.items() if each},
            "promises in memory": core.waits._promises,
            # One is that of the purge.
            "timers in memory": [*core.timers._heap[1:], *core.timers._cancelled],
            "holders": [(slot.ident, slot.holder and slot.holder.label) for slot in slots if slot.holder or slot.queue],
            "records ahead": sum(core.commits.records_ahead.values()),
        }
