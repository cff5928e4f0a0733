"""What the store keeps, and one commit of it. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import msgspec

from streamstate.journal import Entry, Failure, Outcome

ObjectId: TypeAlias = tuple[str, str]  # service, key
PositionId: TypeAlias = tuple[str, str, str, int]  # subscription, topic, topic id, partition
PromiseId: TypeAlias = tuple[str, str, str]  # service, key, name
TimerId: TypeAlias = tuple[str, str, int]  # invocation, kind, index
WaiterId: TypeAlias = tuple[str, str, int]  # what is waited for, invocation, index


class Status(StrEnum):
    """The states of an invocation, named like those of Restate's `sys_invocation`."""

    SCHEDULED = "scheduled"  # waits for its start time
    PENDING = "pending"  # waits in the inbox of its key
    READY = "ready"  # something arrived that the handler has not seen
    RUNNING = "running"  # steps of it are running, or must be started again
    SUSPENDED = "suspended"  # waits for something to arrive
    BACKING_OFF = "backing-off"  # waits for its next attempt
    PAUSED = "paused"  # waits for a person
    COMPLETED = "completed"  # kept for its retention


class Origin(msgspec.Struct, frozen=True):
    """Where an invocation came from, and what came with it.

    Attributes:
        caller, caller_index: the invocation and command that wait for the result; empty for a send or from outside.
        subscription: its name, where the input is a record.
        topic ... record_headers: the record's metadata, where the input is a record.
        is_tombstone: the record's value was null, which is not the same as empty.
    """

    headers: dict[str, str] = {}
    caller: str = ""
    caller_index: int = -1
    subscription: str = ""
    topic: str = ""
    partition: int = -1
    offset: int = -1
    timestamp_ms: int = -1
    record_key: bytes | None = None
    record_headers: list[tuple[str, bytes | None]] = []
    is_tombstone: bool = False


class InvocationRow(msgspec.Struct, frozen=True):
    """One invocation.

    Attributes:
        seq: its place in the order of acceptance, over all invocations.
        key: the object or workflow key; empty for services.
        lane: True when it takes its turn in the queue of its key.
        started_ms: the moment of its first turn that was kept; the handler's loop counts from here.
        attempt: attempts that failed so far.
        first_failed_ms: the moment of the first failure in a row, for a policy's duration.
        due_ms: the start time of a scheduled one, the next attempt of one that backs off.
        failure: the last failure; the outcome of one that completed with a failure.
        result: the outcome of one that completed with success.
        expires_ms: when a completed one may be purged.
        undelivered: how many entries at the end of the journal are arrivals that the handler has not seen.
    """

    id: str
    seq: int
    service: str
    handler: str
    key: str
    lane: bool
    status: Status
    input: bytes
    origin: Origin
    created_ms: int
    started_ms: int | None = None
    attempt: int = 0
    first_failed_ms: int | None = None
    due_ms: int | None = None
    failure: Failure | None = None
    result: bytes | None = None
    completed_ms: int | None = None
    expires_ms: int | None = None
    idempotency_key: str | None = None
    undelivered: int = 0


class TimerRow(msgspec.Struct, frozen=True):
    """A durable timer. kind: `sleep` (index = command), `step` (a step's next attempt), `retry`, `start`."""

    fire_ms: int
    invocation: str
    kind: str
    index: int
    attempt: int = 0

    @property
    def id(self) -> TimerId:
        return (self.invocation, self.kind, self.index)


class OutboxMessage(msgspec.Struct, frozen=True):
    """One durable message on its way to a topic.

    Attributes:
        position: its place in the outbox; grows by the order of the turns that published.
        message_id: the same on every attempt; sent as the header `streamstate-message-id`.
    """

    position: int
    cluster: str
    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    message_id: str


@dataclass(slots=True)
class Batch:
    """One commit: everything here becomes durable together, or nothing. None as a value deletes.

    Deleting an invocation deletes its journal, its timers and its waiters too, in the store.
    `forgotten` objects lose all state and promises, before the changes of this batch are applied.
    `journal` maps an invocation to (position of the first entry, entries); what the store holds at these positions and
    behind them is replaced, since arrivals that were not delivered may move to the back.
    `trials` maps an invocation that may take the process down to the number of times that it may have done so.
    `outbox_done` holds, per cluster, the position up to which messages are acknowledged, this one included.
    """

    state: dict[ObjectId, dict[str, bytes | None]] = field(default_factory=dict)
    positions: dict[PositionId, int] = field(default_factory=dict)
    forgotten: set[ObjectId] = field(default_factory=set)
    invocations: dict[str, InvocationRow | None] = field(default_factory=dict)
    journal: dict[str, tuple[int, list[Entry]]] = field(default_factory=dict)
    timers: dict[TimerId, TimerRow | None] = field(default_factory=dict)
    waiters: dict[WaiterId, bool] = field(default_factory=dict)
    promises: dict[PromiseId, Outcome | None] = field(default_factory=dict)
    outbox: list[OutboxMessage] = field(default_factory=list)
    outbox_done: dict[str, int] = field(default_factory=dict)
    trials: dict[str, int | None] = field(default_factory=dict)
    clock_ms: int = 0


class Header(msgspec.Struct, frozen=True):
    """What a store says of itself when it is opened.

    Attributes:
        directory_id: made with the directory, never changes; a backup carries it too.
        epoch: grows by one with every opening.
        clock_ms: the latest moment that was made durable; the engine's clock never goes behind it.
        seq: the highest `seq` ever given. outbox_position: the highest position ever given.
        live: how many invocations have not completed.
        restored_epoch: the epoch that the last restore of a backup gave, all later ones are above it; 0 is never.
            What this directory's id said elsewhere under a lower epoch is older than the restore, or another copy's.
        was_clean: the owner before this one has closed it, or there was none.
    """

    directory_id: str
    epoch: int
    clock_ms: int
    seq: int
    outbox_position: int
    live: int
    restored_epoch: int = 0
    was_clean: bool = True
