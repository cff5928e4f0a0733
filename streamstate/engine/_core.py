"""What the parts of the engine share: who is in memory, what is to be run, what goes into the batch.

E1  What is acknowledged is in a batch that was made durable before (I1).
E2  An input identity is accepted once (I2).
E3  An arrival is durable together with what caused it: in the journal when its turn is in the same batch, else among
    the undelivered ones.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from streamstate.context import Session
from streamstate.definitions import HandlerKind, HandlerSpec, Program, Record, Retention, RetryPolicy, ServiceKind
from streamstate.engine._clock import Clock
from streamstate.engine._commits import Commits
from streamstate.engine._keys import QUEUE_IN_MEMORY_MAX, KeySlot, KeyTable, Live
from streamstate.engine._outbox import Outbox
from streamstate.engine._timers import Timers
from streamstate.engine._trials import Trials
from streamstate.engine._waits import Waits
from streamstate.errors import HandlerFault, InvocationPausedError, NotFoundError
from streamstate.journal import (
    Arrival,
    Command,
    Completion,
    Outcome,
)
from streamstate.serde import EmptySerde
from streamstate.storage import Batch, InvocationRow, Origin, Status, Store, TimerRow


class Request(msgspec.Struct, frozen=True):
    """An input that wants to be an invocation.

    Attributes:
        is_identified: its id comes from a workflow key or an idempotency key, so it may be there already.
        due_ms: not before this moment; None is at once.
    """

    id: str
    spec: HandlerSpec
    key: str
    body: bytes
    origin: Origin
    idempotency_key: str | None = None
    is_identified: bool = False
    due_ms: int | None = None


class Core:
    """See the module."""

    def __init__(self, program: Program, store: Store, clock: Clock, slots_max: int, kick: Callable[[], None]) -> None:
        header = store.header
        self.program = program
        self.store = store
        self.clock = clock
        self.keys = KeyTable(store, list(program.services), slots_max)
        self.live: dict[str, Live] = {}
        self.work: deque[Live] = deque()
        self.undelivered: dict[str, Live] = {}
        self.refills: list[KeySlot] = []
        self.ended: dict[str, tuple[int, InvocationRow]] = {}
        self.spilled: dict[str, tuple[int, InvocationRow]] = {}
        self.replies: dict[str, list[asyncio.Future[Outcome]]] = {}
        self.stored_count = header.live
        self.seq = header.seq
        self.kick = kick
        self.waits = Waits(self)
        self.trials = Trials(self)
        self.commits: Commits
        self.timers: Timers
        self.outbox: Outbox

    # Rows and the batch.

    def put(self, inv: Live) -> None:
        """The invocation's row goes into the batch."""
        if not inv.is_stored:
            inv.is_stored = True
            inv.first_batch = self.commits.number
            self.stored_count += 1
        self.commits.batch.invocations[inv.id] = inv.row
        inv.batch = self.commits.touch()

    def remove(self, inv: Live) -> None:
        """Nothing of the invocation is kept; one that began in this very batch leaves no trace at all."""
        batch = self.commits.batch
        if inv.first_batch == self.commits.number:
            batch.invocations.pop(inv.id, None)
            batch.journal.pop(inv.id, None)
        elif inv.is_stored:
            batch.invocations[inv.id] = None
            batch.journal.pop(inv.id, None)
        self.commits.touch()

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def add_timer(self, row: TimerRow) -> None:
        self.commits.batch.timers[row.id] = row
        self.commits.touch()
        self.timers.add(row)

    def drop_timer(self, invocation: str, kind: str, index: int) -> None:
        self.commits.batch.timers[(invocation, kind, index)] = None
        self.commits.touch()
        inv = self.live.get(invocation)
        arrived = inv.inbox if inv is not None and kind == "sleep" else ()
        if not any(isinstance(each, Completion) and each.index == index for each in arrived):
            self.timers.cancel((invocation, kind, index))

    def find_row(self, invocation: str) -> InvocationRow | None:
        """The row of an invocation, wherever it is."""
        inv = self.live.get(invocation)
        if inv is not None:
            return inv.row
        kept = self.ended.get(invocation) or self.spilled.get(invocation)
        return kept[1] if kept is not None else self.store.invocations.get(invocation)

    def before_seal(self, batch: Batch) -> None:
        """E3: arrivals that no turn has seen yet follow the journal as undelivered ones."""
        batch.clock_ms = self.clock.now_ms()
        for inv in self.undelivered.values():
            position, entries = batch.journal.get(inv.id, (inv.journal_length, []))
            batch.journal[inv.id] = (position, [*entries, *inv.inbox])
            inv.change(undelivered=len(inv.inbox))
            self.put(inv)
        self.undelivered = {}

    def tell_paused(self, inv: Live) -> None:
        """Callers in this process who wait for it, directly or through its callers, are told that it is paused."""
        text = paused_text(inv.row)
        seen: set[str] = set()
        above: Live | None = inv
        while above is not None and above.id not in seen:
            seen.add(above.id)
            for reply in self.replies.pop(above.id, ()):
                self.commits.releases.replies.append((reply, InvocationPausedError(text)))
            above = self.live.get(above.row.origin.caller)

    def forget_object(self, service: str, key: str) -> None:
        """All state and all promises of an object are gone."""
        self.commits.batch.forgotten.add((service, key))
        self.waits.forget_object(service, key)
        slot = self.keys.find(service, key)
        if slot is not None:
            slot.values.clear()

    def forget_durable(self) -> None:
        """What the store shows by now need not be remembered."""
        durable = self.commits.durable
        if self.ended:
            self.ended = {name: kept for name, kept in self.ended.items() if kept[0] > durable}
        if self.spilled:
            self.spilled = {name: kept for name, kept in self.spilled.items() if kept[0] > durable}
        self.waits.forget_durable(durable)
        refills, self.refills = self.refills, []
        for slot in refills:
            self.refill(slot)

    # Into memory.

    def slot_of(self, service: str, key: str) -> KeySlot:
        """The key, with its holder and its queue."""
        slot = self.keys.find(service, key)
        if slot is None:
            slot = self.keys.load(service, key)
            if self.stored_count:
                self._fill(slot)
        return slot

    def load_slots(self, service: str, keys: Sequence[str]) -> None:
        """Bring many keys into memory at once; none of them may be there."""
        states = self.store.states(service, keys)
        occupied = self.store.invocations.occupied(service, keys) if self.stored_count else set()
        for key in keys:
            slot = self.keys.add(service, key, states.get(key, {}))
            if key in occupied:
                self._fill(slot)

    def load(self, invocation: str) -> Live | None:
        """An invocation that has not completed, brought into memory if it is not."""
        inv = self.live.get(invocation)
        if inv is not None:
            return inv
        row = self.find_row(invocation)
        if row is None or row.status is Status.COMPLETED:
            return None
        if row.lane and row.status is not Status.SCHEDULED:
            slot = self.slot_of(row.service, row.key)
            # One that waits so far back in its key's queue that the queue has not loaded it is made here.
            return self.live.get(invocation) or self._adopt(row, self._spec_of(row), slot)
        return self.adopt(row)

    def adopt(self, row: InvocationRow) -> Live:
        """Make an invocation of a stored row."""
        spec = self._spec_of(row)
        slot = self.slot_of(row.service, row.key) if spec.is_keyed and not row.lane else None
        inv = self.live.get(row.id)
        return inv if inv is not None else self._adopt(row, spec, slot)

    def _adopt(self, row: InvocationRow, spec: HandlerSpec, slot: KeySlot | None) -> Live:
        inv = Live(row, spec, slot)
        inv.is_stored = True
        if row.undelivered or row.status not in (Status.PENDING, Status.SCHEDULED):
            entries = self.store.invocations.journal(row.id)
            split = len(entries) - row.undelivered
            inv.recorded = entries[:split]
            inv.journal_length = split
            inv.inbox.extend(entry for entry in entries[split:] if not isinstance(entry, Command))
            # One that is suspended has no step under way.
            timers = self.store.invocations.timers(row.id) if row.status is not Status.SUSPENDED else ()
            inv.backoff = {timer.index: timer.attempt for timer in timers if timer.kind == "step"}
        self.live[row.id] = inv
        return inv

    def _fill(self, slot: KeySlot) -> None:
        rows = self._load_queue(slot)
        while len(rows) == QUEUE_IN_MEMORY_MAX and slot.holder is None and not slot.is_waited_for:
            rows = self._load_queue(slot)
        if len(rows) == QUEUE_IN_MEMORY_MAX:
            slot.spilled_seq = max(slot.spilled_seq, slot.last_seq + 1)
        if slot.holder is None and slot.is_waited_for:
            self.pass_on(slot)

    def _load_queue(self, slot: KeySlot) -> list[InvocationRow]:
        rows = self.store.invocations.lane(*slot.ident, slot.last_seq, QUEUE_IN_MEMORY_MAX)
        for row in rows:
            slot.last_seq = row.seq
            if row.id in self.ended:
                continue  # the store does not show it yet
            # It may be in memory already, with arrivals that the row does not show yet.
            inv = self.live.get(row.id) or self._adopt(row, self._spec_of(row), slot)
            inv.slot = slot  # it may be one that was looked up behind the queue, when the key had another slot
            if row.status is Status.PENDING:
                slot.queue.append(inv)
            else:
                slot.holder = inv
                if row.status in (Status.READY, Status.RUNNING):
                    self.enqueue(inv)
        return rows

    def _spec_of(self, row: InvocationRow) -> HandlerSpec:
        try:
            return self.program.handler(row.service, row.handler)
        except NotFoundError as missing:
            return _absent(row, missing)

    # Work.

    def enqueue(self, inv: Live) -> None:
        """The invocation has something to do."""
        if not inv.is_queued:
            inv.is_queued = True
            self.work.append(inv)
            self.kick()

    def pass_on(self, slot: KeySlot) -> None:
        """The key is free: the next one in its queue holds it (I4)."""
        while slot.is_waited_for:
            inv = slot.queue.popleft()
            if inv.row.status is Status.PENDING:
                slot.holder = inv
                self.enqueue(inv)
                return
        if slot.is_spilled:
            self.refill(slot)
        else:
            slot.holder = None

    def refill(self, slot: KeySlot) -> None:
        """The part of a queue that is in memory is used up: read on, once the store shows who of the rest has ended.

        Until then the key stays with the one that has ended, so that no new input overtakes the rest.
        """
        durable = self.commits.durable
        if slot.batch <= durable:
            before, last_holder, slot.holder = slot.last_seq, slot.holder, None
            self._fill(slot)
            if slot.last_seq > before:
                return
            if slot.spilled_batch <= durable:
                slot.spilled_seq = before
                return
            slot.holder = last_holder
        self.refills.append(slot)

    def accept(self, request: Request) -> InvocationRow | None:
        """Take an input in; the row of the one that is there already, or None when it is new (E2)."""
        if request.is_identified:
            existing = self.find_row(request.id)
            if existing is not None:
                return existing
        spec = request.spec
        lane = spec.kind in (HandlerKind.EXCLUSIVE, HandlerKind.WORKFLOW)
        row = InvocationRow(
            id=request.id,
            seq=self.next_seq(),
            service=spec.service,
            handler=spec.name,
            key=request.key,
            lane=lane,
            status=Status.PENDING if request.due_ms is None else Status.SCHEDULED,
            input=request.body,
            origin=request.origin,
            created_ms=self.clock.now_ms(),
            due_ms=request.due_ms,
            idempotency_key=request.idempotency_key,
        )
        inv = Live(row, spec, None)
        self.live[inv.id] = inv
        self.put(inv)
        if request.due_ms is None:
            self.admit(inv)
        else:
            self.add_timer(TimerRow(request.due_ms, inv.id, "start", 0))
        return None

    def adopt_running(self, request: Request, session: Session, slot: KeySlot | None) -> Live:
        """Make an invocation of an input whose first turn has run already."""
        spec = request.spec
        row = InvocationRow(
            id=request.id,
            seq=self.next_seq(),
            service=spec.service,
            handler=spec.name,
            key=request.key,
            lane=spec.kind is HandlerKind.EXCLUSIVE,
            status=Status.READY,
            input=request.body,
            origin=request.origin,
            created_ms=session.started_ms,
            started_ms=session.started_ms,
        )
        inv = Live(row, spec, slot)
        inv.session = session
        if slot is not None:
            slot.holder = inv
        self.live[inv.id] = inv
        return inv

    def admit(self, inv: Live) -> None:
        """Put it into the queue of its key, or to work at once."""
        spec = inv.spec
        if not spec.is_keyed:
            self.enqueue(inv)
            return
        inv.slot = slot = self.slot_of(inv.row.service, inv.row.key)
        if not inv.row.lane:
            self.enqueue(inv)
        elif slot.holder is None:
            slot.holder = inv
            self.enqueue(inv)
        elif slot.is_spilled or len(slot.queue) >= QUEUE_IN_MEMORY_MAX:
            slot.spilled_seq = inv.row.seq
            slot.spilled_batch = inv.batch
            self.spilled[inv.id] = (inv.batch, inv.row)
            del self.live[inv.id]
        else:
            slot.last_seq = inv.row.seq
            slot.queue.append(inv)

    def arrive(self, invocation: str, arrival: Arrival) -> bool:
        """Something came back for an invocation; False when it has ended or never was."""
        inv = self.load(invocation)
        if inv is None:
            return False
        inv.inbox.append(arrival)
        self.undelivered[inv.id] = inv
        self.commits.touch()
        if not inv.is_waiting_to_start():
            if inv.row.status is Status.SUSPENDED:
                inv.change(status=Status.READY)
            self.enqueue(inv)
        return True


def paused_text(row: InvocationRow) -> str:
    """What those who wait for a paused invocation are told."""
    reason = row.failure.message if row.failure is not None else "paused by a person"
    key = f"/{row.key}" if row.key else ""
    return f"{row.service}{key}.{row.handler} ({row.id}) is paused: {reason}. It goes on after it is resumed"


def record_of(row: InvocationRow) -> Record | None:
    """The record that a row came from."""
    origin = row.origin
    if not origin.subscription:
        return None
    return Record(
        origin.topic,
        origin.partition,
        origin.offset,
        origin.timestamp_ms,
        origin.record_key,
        None if origin.is_tombstone else row.input,
        tuple((name, value) for name, value in origin.record_headers),
    )


def _absent(row: InvocationRow, missing: NotFoundError) -> HandlerSpec:
    """Stands for a handler that the program no longer has: its invocation is paused, and its key waits."""

    async def absent(_ctx: object) -> None:
        raise HandlerFault(f"{missing.message}. Put the handler back and resume the invocation, or kill it")

    return HandlerSpec(
        service=row.service,
        name=row.handler,
        service_kind=ServiceKind.OBJECT if row.key else ServiceKind.SERVICE,
        kind=HandlerKind.EXCLUSIVE if row.lane else HandlerKind.SERVICE,
        function=absent,
        takes_input=False,
        input=EmptySerde(),
        output=EmptySerde(),
        retry=RetryPolicy(),
        retention=Retention(),
        site="",
    )
