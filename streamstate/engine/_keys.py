"""Invocations and keys in memory: state as bytes, who holds a key, who waits for it.

K1  One exclusive handler at a time holds a key; the others wait in the order of acceptance (I4).
K2  A slot without a holder has an empty queue.
K3  A slot leaves memory only when everything of it is durable; a slot in memory is what the store and the batches hold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from streamstate.context import Session
from streamstate.definitions import HandlerSpec
from streamstate.journal import Arrival, CancelArrived, Entry
from streamstate.storage import Batch, InvocationRow, Status, Store

QUEUE_IN_MEMORY_MAX = 1_000  # per key; a longer queue waits in the store
SLOTS_MAX = 200_000  # default bound of idle keys in memory, about 100 MB with small states


class Live:
    """One invocation that the engine has in memory.

    Attributes:
        row: its row as of the end of the last turn.
        slot: its key, where it has one.
        session: the handler where it stands, or None while it is not in memory.
        recorded: the journal to replay when the session is made; None is what the store holds.
        journal_length: entries of whole turns, all of them in a batch or in the store.
        inbox: arrivals that the handler has not seen, in order.
        running: steps whose action runs now. backoff: attempts of steps that wait for their next one.
        is_stored: its row is in a batch, or in the store.
        is_queued: it is in the engine's queue of work.
        first_batch: the number of the batch that its row was put into first; 0 when it came from the store.
        batch: the number of the last batch that holds something of it.
        cancel_heard: a child that was cancelled with it has told the handler already.
    """

    __slots__ = (
        "backoff",
        "batch",
        "cancel_heard",
        "first_batch",
        "id",
        "inbox",
        "is_queued",
        "is_stored",
        "journal_length",
        "recorded",
        "row",
        "running",
        "session",
        "slot",
        "spec",
    )

    def __init__(self, row: InvocationRow, spec: HandlerSpec, slot: KeySlot | None) -> None:
        self.id = row.id
        self.row = row
        self.spec = spec
        self.slot = slot
        self.session: Session | None = None
        self.recorded: Sequence[Entry] | None = ()
        self.journal_length = 0
        self.inbox: deque[Arrival] = deque()
        self.running: set[int] = set()
        self.backoff: dict[int, int] = {}
        self.cancel_heard = False
        self.is_stored = False
        self.is_queued = False
        self.first_batch = 0
        self.batch = 0

    @property
    def label(self) -> str:
        """How messages name it."""
        key = f"/{self.row.key}" if self.spec.is_keyed else ""
        return f"{self.row.service}{key}.{self.row.handler} ({self.row.id})"

    @property
    def is_cancelling(self) -> bool:
        return any(isinstance(arrival, CancelArrived) for arrival in self.inbox)

    def change(self, **changes: Any) -> None:
        """Replace fields of the row."""
        self.row = msgspec.structs.replace(self.row, **changes)

    def is_waiting_to_start(self) -> bool:
        return self.row.status in (Status.PENDING, Status.SCHEDULED)


class KeySlot:
    """One key of one object or workflow."""

    __slots__ = (
        "_pending",
        "_pending_batch",
        "_queue",
        "batch",
        "holder",
        "ident",
        "last_seq",
        "spilled_batch",
        "spilled_seq",
        "values",
    )

    def __init__(self, ident: tuple[str, str], values: dict[str, bytes]) -> None:
        self.ident = ident
        self.values = values
        self.holder: Live | None = None
        self._queue: deque[Live] | None = None
        self.last_seq = 0
        self.spilled_seq = 0
        self.spilled_batch = 0
        self.batch = 0
        self._pending: dict[str, bytes | None]
        self._pending_batch = 0

    @property
    def queue(self) -> deque[Live]:
        """Who waits for the key; made when asked for, since most keys never have one."""
        if self._queue is None:
            self._queue = deque()
        return self._queue

    @property
    def is_waited_for(self) -> bool:
        return bool(self._queue)

    @property
    def is_spilled(self) -> bool:
        """True when the store holds more of the queue, behind what is in memory."""
        return self.spilled_seq > self.last_seq

    def apply(self, changes: dict[str, bytes | None], batch: Batch, number: int) -> None:
        """Make changes of a turn the state that the next one sees, and part of the batch."""
        self.merge(changes, batch, number)
        for name, value in changes.items():
            if value is None:
                del self.values[name]

    def merge(self, changes: dict[str, Any], batch: Batch, number: int) -> None:
        """Like `apply`, for changes that clear nothing."""
        self.values |= changes
        if self._pending_batch == number:
            self._pending |= changes
        else:
            batch.state[self.ident] = self._pending = changes
            self.batch = self._pending_batch = number


class KeyTable:
    """All keys in memory, by service and key."""

    def __init__(self, store: Store, services: list[str], slots_max: int = SLOTS_MAX) -> None:
        self._store = store
        self._slots_max = slots_max
        self.services: dict[str, dict[str, KeySlot]] = {service: {} for service in services}
        self.count = 0

    def find(self, service: str, key: str) -> KeySlot | None:
        return self.services[service].get(key)

    def load(self, service: str, key: str) -> KeySlot:
        """Bring a key's state into memory; who holds it and waits for it is the caller's to add."""
        return self.add(service, key, self._store.state(service, key))

    def add(self, service: str, key: str, values: dict[str, bytes]) -> KeySlot:
        """A key that was not in memory, with what the store has of its state."""
        slot = KeySlot((service, key), values)
        self.services[service][key] = slot
        self.count += 1
        return slot

    def forget(self, slot: KeySlot) -> None:
        """Drop a key whose everything is durable; its next use reads it again."""
        if self.services[slot.ident[0]].pop(slot.ident[1], None) is not None:
            self.count -= 1

    def evict(self, durable: int) -> None:
        """Forget idle keys, those untouched for longest first, until half of the bound is left free again."""
        if self.count <= self._slots_max:
            return
        idle = [
            slot
            for slots in self.services.values()
            for slot in slots.values()
            if slot.holder is None and slot.batch <= durable
        ]
        idle.sort(key=lambda slot: slot.batch)
        for slot in idle[: self.count - self._slots_max // 2]:
            self.forget(slot)
