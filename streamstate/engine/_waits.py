"""Who waits for what: promises, waiters, awakeables, and calls that would wait for ever."""

from __future__ import annotations

from typing import Protocol

from streamstate.context import failure_of
from streamstate.definitions import HandlerKind, HandlerSpec, Program
from streamstate.engine._clock import Clock
from streamstate.engine._commits import Commits
from streamstate.engine._keys import KeySlot, Live
from streamstate.errors import CallCycleError
from streamstate.journal import (
    Arrival,
    Command,
    Completion,
    Failure,
    Kind,
    Outcome,
    child_identity,
    keyed_identity,
    parse_awakeable_id,
    pending_in,
    workflow_identity,
)
from streamstate.storage import PromiseId, Store


class Memory(Protocol):
    """What this needs of the engine: the invocations and keys in memory, and the batch."""

    program: Program
    store: Store
    clock: Clock
    commits: Commits

    def load(self, invocation: str) -> Live | None: ...

    def slot_of(self, service: str, key: str) -> KeySlot: ...

    def arrive(self, invocation: str, arrival: Arrival) -> bool: ...


class Waits:
    """See the module."""

    def __init__(self, core: Memory) -> None:
        self._core = core
        self._promises: dict[PromiseId, tuple[int, Outcome]] = {}
        self._waiters: dict[str, dict[tuple[str, int], None]] = {}
        # Those of this process are all in memory; the store may only have more of an earlier one.
        self._may_be_stored = core.store.header.live > 0

    def promise(self, promise: PromiseId) -> Outcome | None:
        recent = self._promises.get(promise)
        return recent[1] if recent is not None else self._core.store.promise(promise)

    def set_promise(self, promise: PromiseId, outcome: Outcome) -> None:
        self._core.commits.batch.promises[promise] = outcome
        self._promises[promise] = (self._core.commits.touch(), outcome)

    def add_waiter(self, awaited: str, invocation: str, index: int) -> None:
        """This command of this invocation gets its outcome when `awaited` has one."""
        self._waiters_of(awaited)[(invocation, index)] = None
        self._core.commits.batch.waiters[(awaited, invocation, index)] = True
        self._core.commits.touch()

    def drop_waiter(self, awaited: str, invocation: str, index: int) -> None:
        """This command waits no more."""
        waiting = self._waiters_of(awaited)
        waiting.pop((invocation, index), None)
        if not waiting and not self._may_be_stored:
            del self._waiters[awaited]
        self._core.commits.batch.waiters[(awaited, invocation, index)] = False

    def take_waiters(self, awaited: str) -> list[tuple[str, int]]:
        """Everyone who waits, in the order in which they began to; they wait no more."""
        waiting = self._waiters_of(awaited)
        del self._waiters[awaited]
        for invocation, index in waiting:
            self._core.commits.batch.waiters[(awaited, invocation, index)] = False
        return list(waiting)

    def _waiters_of(self, awaited: str) -> dict[tuple[str, int], None]:
        found = self._waiters.get(awaited)
        if found is None:
            stored = self._core.store.waiters(awaited) if self._may_be_stored else []
            found = self._waiters[awaited] = dict.fromkeys(stored)
        return found

    def find_cycle(self, target: HandlerSpec, key: str, caller: Live) -> Failure | None:
        """The failure of a call that would wait for a key which its own callers hold, or None."""
        if target.kind is not HandlerKind.EXCLUSIVE:
            return None
        slot = self._core.slot_of(target.service, key)
        callers: dict[str, Live] = {}
        above: Live | None = caller
        while above is not None and above.id not in callers:
            callers[above.id] = above
            above = self._core.load(above.row.origin.caller) if above.row.origin.caller else None
        path: list[Live] = []
        if slot.holder is None or not self._leads_to(slot.holder, callers, path):
            return None
        named = " → ".join([caller.label, *(inv.label for inv in path)])
        text = (
            f"a call to {target.target} for key {key!r} would wait for ever: {named}. Use ctx.send, or a shared handler"
        )
        return failure_of(CallCycleError(text))

    def pending_of(self, inv: Live) -> dict[int, Command]:
        """The commands whose outcome an invocation waits for, also when its handler is not in memory."""
        if inv.session is not None:
            return inv.session.machine.pending
        entries = inv.recorded if inv.recorded is not None else self._core.store.invocations.journal(inv.id)
        return pending_in(entries)

    def awaits(self, inv: Live, index: int, kind: str) -> bool:
        """Whether it still waits for this command, and nothing has arrived for it."""
        command = self.pending_of(inv).get(index)
        if command is None or command.kind != kind:
            return False
        return not any(isinstance(each, Completion) and each.index == index for each in inv.inbox)

    def complete_awakeable(self, awakeable: str, outcome: Outcome) -> bool:
        """Complete an awakeable; False when nothing waits for it any more."""
        invocation, index = parse_awakeable_id(awakeable)
        inv = self._core.load(invocation)
        if inv is None or not self.awaits(inv, index, Kind.AWAKEABLE):
            return False
        return self._core.arrive(invocation, Completion(index, outcome, self._core.clock.now_ms()))

    def _leads_to(self, inv: Live, goals: dict[str, Live], path: list[Live]) -> bool:
        """Whether `inv` waits, by its calls and the keys that they queue for, for one of the goals."""
        if inv in path:
            return False
        path.append(inv)
        if inv.id in goals:
            return True
        for index, command in self.pending_of(inv).items():
            if command.kind != Kind.CALL:
                continue
            child = self._core.load(self._called(inv, index, command))
            if child is None:
                continue
            holder = child.slot.holder if child.row.lane and child.slot is not None else child
            if holder is not None and self._leads_to(holder, goals, path):
                return True
        path.pop()
        return False

    def _called(self, inv: Live, index: int, command: Command) -> str:
        """The invocation that a call waits for; it may be another's child, by its idempotency key."""
        service, _, handler = command.name.partition("/")
        if self._core.program.handler(service, handler).kind is HandlerKind.WORKFLOW:
            return workflow_identity(service, command.key or "")
        idempotency_key = (command.options or {}).get("idempotency_key")
        if idempotency_key is not None:
            return keyed_identity(service, handler, command.key or "", str(idempotency_key))
        return child_identity(inv.id, index)

    def forget_object(self, service: str, key: str) -> None:
        """The promises of an object are gone."""
        self._promises = {name: kept for name, kept in self._promises.items() if name[:2] != (service, key)}

    def forget_durable(self, durable: int) -> None:
        """What the store shows by now need not be remembered."""
        if self._promises:
            self._promises = {name: kept for name, kept in self._promises.items() if kept[0] > durable}
