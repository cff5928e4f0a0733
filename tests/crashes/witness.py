"""Knows what is durable, from the batches that were made durable and from nothing else of the engine.

W1  A store that is opened holds exactly what was made durable: every batch whose commit returned, nothing of another.
W2  Nothing leaves the process before what decided it is durable.
W3  A step whose result is durable is not run again, nor a step of an invocation that has durably ended.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from streamstate.journal import CancelArrived, Command, Completion, Kind
from streamstate.storage import Batch, InvocationRow, MemoryStore, ObjectId, OutboxMessage, PromiseId, Status, Store

ALL = 1_000_000
CLUSTER = "memory"

StepId = tuple[str, str]  # invocation, name


class Content(NamedTuple):
    """Everything that a store shows through its port, of what was ever written to it."""

    state: dict[ObjectId, dict[str, bytes]]
    positions: dict[tuple[str, str, str, int], int]
    invocations: dict[str, InvocationRow | None]
    journals: dict[str, list[Any]]
    promises: dict[PromiseId, Any]
    waiters: dict[str, list[tuple[str, int]]]
    timers: list[Any]
    outbox: list[OutboxMessage]
    runnable: list[str]


class Marks(NamedTuple):
    """The highest of what was ever given; a start goes on from there."""

    clock_ms: int
    seq: int
    outbox_position: int
    live: int


class Witness:
    """See the module.

    Attributes:
        shadow: a store in memory that is given the same batches.
        settled: steps whose result is durable. ended: invocations whose end is durable.
        commits: how many batches became durable.
    """

    def __init__(self) -> None:
        self.shadow = MemoryStore()
        self.settled: set[StepId] = set()
        self.ended: set[str] = set()
        self.commits = 0
        self._objects: set[ObjectId] = set()
        self._invocations: set[str] = set()
        self._promises: set[PromiseId] = set()
        self._awaited: set[str] = set()

    def saw(self, batch: Batch) -> None:
        """This batch is durable."""
        before = {name: self.shadow.invocations.get(name) for name in batch.invocations}
        self.shadow.commit(batch)
        self.commits += 1
        self._objects |= batch.state.keys()
        self._promises |= batch.promises.keys()
        self._awaited |= {awaited for awaited, _, _ in batch.waiters}
        self._invocations |= batch.invocations.keys() | batch.journal.keys()
        for name, row in batch.invocations.items():
            earlier = before[name]
            if row is None and earlier is not None and earlier.status is Status.COMPLETED:
                # Past its retention: the same identity may begin anew.
                self.ended.discard(name)
                self.settled = {step for step in self.settled if step[0] != name}
            elif row is None or row.status is Status.COMPLETED:
                self.ended.add(name)
        for name in batch.journal:
            self.settled |= {(name, step) for step in self._steps(name, only_settled=True)}

    def content_of(self, store: Store) -> Content:
        """What this store shows."""
        invocations = {name: store.invocations.get(name) for name in sorted(self._invocations)}
        return Content(
            {each: state for each in sorted(self._objects) if (state := store.state(*each))},
            store.positions(),
            invocations,
            {name: entries for name in invocations if (entries := store.invocations.journal(name))},
            {each: store.promise(each) for each in sorted(self._promises)},
            {each: waiting for each in sorted(self._awaited) if (waiting := store.waiters(each))},
            store.timers(None, ALL),
            store.outbox(CLUSTER, 0, ALL),
            [row.id for row in store.invocations.runnable(0, ALL)],
        )

    def opened(self, store: Store) -> list[str]:
        """W1: where a store that was just opened differs from what was made durable."""
        header, content = store.header, self.shadow._content
        live = sum(row.status is not Status.COMPLETED for row in content.invocations.values())
        marks = Marks(content.clock_ms, content.seq, content.outbox_position, live)
        given = Marks(header.clock_ms, header.seq, header.outbox_position, header.live)
        problems = [] if given == marks else [f"W1: the header says {given}; durable were {marks}"]
        return problems + self.differences(store)

    def differences(self, store: Store) -> list[str]:
        """W1: where what a store shows differs from what was made durable."""
        expected, found = self.content_of(self.shadow), self.content_of(store)
        return [
            f"W1: the {field} found are {there!r}; durable were {durable!r}"
            for field, durable, there in zip(Content._fields, expected, found, strict=True)
            if durable != there
        ]

    def step_begins(self, invocation: str, step: str) -> list[str]:
        """W2 and W3 for a step that begins now."""
        problems = []
        if (invocation, step) in self.settled:
            problems.append(f"W3: step {step!r} of {invocation} runs again, though its result is durable")
        if invocation in self.ended:
            problems.append(f"W3: step {step!r} of {invocation} runs, though the end of the invocation is durable")
        elif step not in self._steps(invocation, only_settled=False):
            problems.append(f"W2: step {step!r} of {invocation} runs before the turn that decided it is durable")
        return problems

    def message_leaves(self, message: OutboxMessage) -> list[str]:
        """W2 for a message that is published now."""
        if self.shadow.outbox(message.cluster, message.position - 1, 1) == [message]:
            return []
        return [f"W2: message {message.message_id} to {message.topic} leaves, and is not in the durable outbox"]

    def position_leaves(self, position: tuple[str, str, str, int], offset: int) -> list[str]:
        """W2 for a source position that is reported now."""
        durable = self.shadow.positions().get(position, -1)
        return [f"W2: {position} is reported as {offset}; durable is {durable}"] if offset > durable else []

    def answer_leaves(self, invocation: str) -> list[str]:
        """W2 for the outcome of an invocation that is kept, when a caller hears it."""
        row = self.shadow.invocations.get(invocation)
        if row is not None and row.status is Status.COMPLETED:
            return []
        return [f"W2: a caller hears how {invocation} ended, and its end is not durable"]

    def is_cancelled(self, invocation: str) -> bool:
        """Whether its cancellation is durable."""
        journal = self.shadow.invocations.journal(invocation)
        return invocation in self.ended or any(isinstance(entry, CancelArrived) for entry in journal)

    def lane_of(self, invocation: str) -> ObjectId | None:
        """The object that an invocation holds while it runs; None for those that hold none."""
        row = self.shadow.invocations.get(invocation)
        return (row.service, row.key) if row is not None and row.lane else None

    @property
    def unfinished(self) -> list[str]:
        """Durable invocations that have not ended, and durable messages that were not acknowledged."""
        rows = (self.shadow.invocations.get(name) for name in self._invocations - self.ended)
        live = [_named(row) for row in rows if row is not None and row.status is not Status.COMPLETED]
        return live + [message.message_id for message in self.shadow.outbox(CLUSTER, 0, ALL)]

    def _steps(self, invocation: str, *, only_settled: bool) -> set[str]:
        entries = self.shadow.invocations.journal(invocation)
        commands = [entry for entry in entries if isinstance(entry, Command)]
        steps = {index: command.name for index, command in enumerate(commands) if command.kind == Kind.RUN}
        if not only_settled:
            return set(steps.values())
        done = {entry.index for entry in entries if isinstance(entry, Completion)}
        return {name for index, name in steps.items() if index in done}


def _named(row: InvocationRow) -> str:
    why = "" if row.failure is None else f": {row.failure.message}"
    return f"{row.service}/{row.key}.{row.handler} ({row.id}) is {row.status}{why}"
