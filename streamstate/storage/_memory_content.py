"""What the in-memory store keeps; it outlives the stores that are opened over it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator

import msgspec

from streamstate.storage._rows import (
    Batch,
    Header,
    InvocationRow,
    ObjectId,
    OutboxMessage,
    PositionId,
    PromiseId,
    Status,
    TimerRow,
)

_row_decoder = msgspec.msgpack.Decoder(InvocationRow)
_RUNNABLE = frozenset({Status.PENDING, Status.READY, Status.RUNNING})
_NOT_IN_LANE = frozenset({Status.COMPLETED, Status.SCHEDULED})


def copy_row(row: InvocationRow) -> InvocationRow:
    """A copy that shares nothing that can change."""
    return _row_decoder.decode(msgspec.msgpack.encode(row))


def in_lane(row: InvocationRow) -> bool:
    return row.lane and row.status not in _NOT_IN_LANE


def is_runnable(row: InvocationRow) -> bool:
    return row.status in _RUNNABLE


class Prepared(msgspec.Struct, frozen=True):
    """The parts of a batch that had to be copied or checked."""

    state: dict[ObjectId, dict[str, bytes | None]]
    invocations: dict[str, InvocationRow | None]
    journal: dict[str, tuple[int, list[bytes]]]
    promises: dict[PromiseId, bytes | None]


class Content:
    """The tables, as dicts. Every caller holds `lock`.

    Attributes:
        journal: per invocation, position -> encoded entry.
        waiters: per awaited thing, (invocation, index) in the order of insertion.
        lanes: per object, the ids of the invocations that take their turn on it.
    """

    def __init__(self, directory_id: str) -> None:
        self.lock = threading.Lock()
        self.directory_id = directory_id
        self.epoch = 0
        self.clock_ms = 0
        self.seq = 0
        self.outbox_position = 0
        self.state: dict[ObjectId, dict[str, bytes]] = {}
        self.positions: dict[PositionId, int] = {}
        self.invocations: dict[str, InvocationRow] = {}
        self.journal: dict[str, dict[int, bytes]] = {}
        self.timers: dict[str, dict[tuple[str, int], TimerRow]] = {}
        self.waiters: dict[str, dict[tuple[str, int], None]] = {}
        self.promises: dict[PromiseId, bytes] = {}
        self.outbox: dict[str, dict[int, OutboxMessage]] = {}
        self.trials: dict[str, int] = {}
        self.lanes: dict[ObjectId, set[str]] = {}
        self._was_clean = True
        self._awaited_by: dict[str, set[str]] = {}

    def begin_epoch(self) -> Header:
        self.epoch += 1
        live = sum(row.status is not Status.COMPLETED for row in self.invocations.values())
        was_clean, self._was_clean = self._was_clean, False
        return Header(
            self.directory_id, self.epoch, self.clock_ms, self.seq, self.outbox_position, live, was_clean=was_clean
        )

    def released(self, epoch: int) -> None:
        """Its owner of this epoch has closed it."""
        if epoch == self.epoch:
            self._was_clean = True

    def all_timers(self) -> Iterator[TimerRow]:
        return (row for timers in self.timers.values() for row in timers.values())

    def prepare(self, batch: Batch) -> Prepared:
        """Copy what could change later and find what cannot be kept; nothing of the content changes."""
        prepared = Prepared(
            {key: {n: _bytes(v) for n, v in values.items()} for key, values in batch.state.items()},
            {key: None if row is None else copy_row(row) for key, row in batch.invocations.items()},
            {
                invocation: (first, [msgspec.msgpack.encode(entry) for entry in entries])
                for invocation, (first, entries) in batch.journal.items()
            },
            {key: None if o is None else msgspec.msgpack.encode(o) for key, o in batch.promises.items()},
        )
        new: dict[str, set[int]] = {}
        for message in batch.outbox:
            _refuse_overlap(f"the outbox of {message.cluster}", (message.position,), new.get(message.cluster, ()))
            new.setdefault(message.cluster, set()).add(message.position)
        for cluster, positions in new.items():
            _refuse_overlap(f"the outbox of {cluster}", positions, self.outbox.get(cluster, {}))
        return prepared

    def apply(self, batch: Batch, prepared: Prepared) -> None:
        """Deletions of invocations come first; nothing here fails."""
        for ident in batch.forgotten:
            self.state.pop(ident, None)
        if batch.forgotten:
            self.promises = {name: kept for name, kept in self.promises.items() if name[:2] not in batch.forgotten}
        for invocation, row in prepared.invocations.items():
            if row is None:
                self._forget(invocation)
        for row in prepared.invocations.values():
            if row is not None:
                self._put_invocation(row)
        for invocation, (first, entries) in prepared.journal.items():
            kept = {place: entry for place, entry in self.journal.get(invocation, {}).items() if place < first}
            self.journal[invocation] = kept | dict(enumerate(entries, first))
        self._apply_timers(batch)
        self._apply_waiters(batch)
        self._apply_trials(batch)
        for promise, outcome in prepared.promises.items():
            if outcome is None:
                self.promises.pop(promise, None)
            else:
                self.promises[promise] = outcome
        self._apply_outbox(batch)
        self._apply_state(prepared.state)
        self.positions.update(batch.positions)
        self.clock_ms = max(self.clock_ms, batch.clock_ms)

    def _forget(self, invocation: str) -> None:
        row = self.invocations.pop(invocation, None)
        if row is not None:
            self._leave_lane(row)
        self.journal.pop(invocation, None)
        self.timers.pop(invocation, None)
        self.trials.pop(invocation, None)
        for who, index in list(self.waiters.get(invocation, ())):
            self._drop_waiter(invocation, who, index)
        for awaited in list(self._awaited_by.get(invocation, ())):
            for who, index in list(self.waiters[awaited]):
                if who == invocation:
                    self._drop_waiter(awaited, who, index)

    def _put_invocation(self, row: InvocationRow) -> None:
        before = self.invocations.get(row.id)
        if before is not None:
            self._leave_lane(before)
        self.invocations[row.id] = row
        if in_lane(row):
            self.lanes.setdefault((row.service, row.key), set()).add(row.id)
        self.seq = max(self.seq, row.seq)

    def _leave_lane(self, row: InvocationRow) -> None:
        lane = self.lanes.get((row.service, row.key))
        if lane is not None:
            lane.discard(row.id)
            if not lane:
                del self.lanes[row.service, row.key]

    def _apply_timers(self, batch: Batch) -> None:
        for (invocation, kind, index), row in batch.timers.items():
            timers = self.timers.setdefault(invocation, {})
            if row is None:
                timers.pop((kind, index), None)
            else:
                timers[kind, index] = row
            if not timers:
                del self.timers[invocation]

    def _apply_trials(self, batch: Batch) -> None:
        for invocation, deaths in batch.trials.items():
            if deaths is None:
                self.trials.pop(invocation, None)
            else:
                self.trials[invocation] = deaths

    def _apply_waiters(self, batch: Batch) -> None:
        for (awaited, invocation, index), waits in batch.waiters.items():
            if waits:
                self.waiters.setdefault(awaited, {})[invocation, index] = None
                self._awaited_by.setdefault(invocation, set()).add(awaited)
            else:
                self._drop_waiter(awaited, invocation, index)

    def _drop_waiter(self, awaited: str, invocation: str, index: int) -> None:
        waiting = self.waiters.get(awaited, {})
        waiting.pop((invocation, index), None)
        if not waiting:
            self.waiters.pop(awaited, None)
        if all(who != invocation for who, _ in waiting):
            things = self._awaited_by.get(invocation, set())
            things.discard(awaited)
            if not things:
                self._awaited_by.pop(invocation, None)

    def _apply_outbox(self, batch: Batch) -> None:
        for message in batch.outbox:
            self.outbox.setdefault(message.cluster, {})[message.position] = message
            self.outbox_position = max(self.outbox_position, message.position)
        for cluster, done in batch.outbox_done.items():
            waiting = self.outbox.get(cluster, {})
            for position in [position for position in waiting if position <= done]:
                del waiting[position]

    def _apply_state(self, state: dict[ObjectId, dict[str, bytes | None]]) -> None:
        for key, values in state.items():
            kept = self.state.setdefault(key, {})
            for name, value in values.items():
                if value is None:
                    kept.pop(name, None)
                else:
                    kept[name] = value
            if not kept:
                del self.state[key]


def _bytes(value: bytes | None) -> bytes | None:
    return None if value is None else memoryview(value).tobytes()


def _refuse_overlap(what: str, new: Collection[int], there: Collection[int]) -> None:
    doubled = set(new).intersection(there)
    if doubled:
        raise ValueError(f"{what} has the position {min(doubled)} already")
