"""The in-memory twin of the durable store: the same rules, kept in dicts, gone with the process.

What it keeps and what it gives are copies, so that nobody changes a row behind its back. A batch is prepared whole
before the first change, so that one which cannot be kept leaves nothing behind (S1).
"""

from __future__ import annotations

import heapq
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import msgspec

from streamstate.errors import CommitFailedError, StorageCorruptError, StorageError
from streamstate.journal import Entry, Outcome
from streamstate.storage._codec import entry_of
from streamstate.storage._memory_content import Content, copy_row, is_runnable
from streamstate.storage._ports import InvocationReader
from streamstate.storage._rows import (
    Batch,
    Header,
    InvocationRow,
    OutboxMessage,
    PositionId,
    PromiseId,
    Status,
    TimerRow,
)

T = TypeVar("T")

_outcome_decoder: msgspec.msgpack.Decoder[Outcome] = msgspec.msgpack.Decoder(Outcome)


class _Read(Protocol):
    def __call__(self, reading: Callable[[], T]) -> T: ...


def _timer_order(row: TimerRow) -> tuple[int, str, str, int]:
    return row.fire_ms, row.invocation, row.kind, row.index


class MemoryStore:
    """The durable store without a disk, ready to use.

    Args:
        content: what an earlier store left; `reopen` passes it on.
    """

    __slots__ = ("_broken", "_closed", "_content", "_header", "_invocations", "_lock")

    def __init__(self, content: Content | None = None) -> None:
        self._content = Content(secrets.token_hex(16)) if content is None else content
        self._lock = self._content.lock
        self._broken = ""
        self._closed = False
        self._invocations = MemoryInvocations(self._content, self._read)
        with self._lock:
            self._header = self._content.begin_epoch()

    def reopen(self) -> MemoryStore:
        """A new store over the same content, as after a crash: this one takes no more commits."""
        return MemoryStore(self._content)

    @property
    def header(self) -> Header:
        return self._header

    @property
    def invocations(self) -> InvocationReader:
        return self._invocations

    def commit(self, batch: Batch) -> None:
        """Keep a whole batch.

        Raises:
            CommitFailedError: nothing of the batch is visible, and the store takes no more commits.
        """
        with self._lock:
            if self._broken:
                raise CommitFailedError(f"memory store: no more commits: {self._broken}; start the engine again")
            try:
                if self._content.epoch != self._header.epoch:
                    raise CommitFailedError(f"its owner epoch is no longer {self._header.epoch}: it was opened again")
                prepared = self._content.prepare(batch)
            except Exception as error:
                self._broken = f"an earlier one failed ({error})"
                raise CommitFailedError(
                    f"memory store: a commit failed and nothing of it is visible: {error}; start the engine again"
                ) from error
            self._content.apply(batch, prepared)

    def state(self, service: str, key: str) -> dict[str, bytes]:
        """All state of one object, by name."""
        return self._read(lambda: dict(sorted(self._content.state.get((service, key), {}).items())))

    def states(self, service: str, keys: Sequence[str]) -> dict[str, dict[str, bytes]]:
        """All state of these objects, by key; an object without state is left out."""
        state = self._content.state
        return self._read(lambda: {key: dict(state[service, key]) for key in keys if state.get((service, key))})

    def positions(self) -> dict[PositionId, int]:
        return self._read(lambda: dict(self._content.positions))

    def timers(self, after: tuple[int, str, str, int] | None, limit: int) -> list[TimerRow]:
        def behind() -> Iterator[TimerRow]:
            return (row for row in self._content.all_timers() if after is None or _timer_order(row) > after)

        return self._read(lambda: heapq.nsmallest(limit, behind(), key=_timer_order))

    def trials(self) -> dict[str, int]:
        return self._read(lambda: dict(self._content.trials))

    def outbox(self, cluster: str, after: int, limit: int) -> list[OutboxMessage]:
        """Messages of the cluster behind this position, in order."""

        def found() -> list[OutboxMessage]:
            messages = self._content.outbox.get(cluster, {})
            positions = heapq.nsmallest(limit, (position for position in messages if position > after))
            return [messages[position] for position in positions]

        return self._read(found)

    def promise(self, promise: PromiseId) -> Outcome | None:
        def found() -> Outcome | None:
            encoded = self._content.promises.get(promise)
            return None if encoded is None else _outcome_decoder.decode(encoded)

        return self._read(found)

    def waiters(self, awaited: str) -> list[tuple[str, int]]:
        return self._read(lambda: list(self._content.waiters.get(awaited, ())))

    def close(self) -> None:
        """Refuse everything from now on; a second call does nothing."""
        with self._lock:
            self._closed = True
            self._content.released(self._header.epoch)
            self._broken = "the store was closed"

    def _read(self, reading: Callable[[], T]) -> T:
        with self._lock:
            if self._closed:
                raise StorageError("memory store: the store was closed; open it again")
            return reading()


class MemoryInvocations:
    """Reads invocations and what belongs to them."""

    __slots__ = ("_content", "_read")

    def __init__(self, content: Content, read: _Read) -> None:
        self._content = content
        self._read = read

    def get(self, invocation: str) -> InvocationRow | None:
        def found() -> InvocationRow | None:
            row = self._content.invocations.get(invocation)
            return None if row is None else copy_row(row)

        return self._read(found)

    def journal(self, invocation: str) -> list[Entry]:
        """Its entries, in order.

        Raises:
            StorageCorruptError: an entry is missing in the middle.
        """

        def found() -> list[Entry]:
            entries = self._content.journal.get(invocation, {})
            if entries and max(entries) != len(entries) - 1:
                raise StorageCorruptError(
                    f"memory store: the journal of {invocation} has {len(entries)} entries, "
                    f"but its last position is {max(entries)}"
                )
            return [entry_of(entries[position]) for position in range(len(entries))]

        return self._read(found)

    def timers(self, invocation: str) -> list[TimerRow]:
        """Its timers, by fire_ms, kind and index."""
        return self._read(lambda: sorted(self._content.timers.get(invocation, {}).values(), key=_timer_order))

    def lane(self, service: str, key: str, after_seq: int, limit: int) -> list[InvocationRow]:
        def found() -> list[InvocationRow]:
            ids = self._content.lanes.get((service, key), ())
            return self._first((self._content.invocations[invocation] for invocation in ids), after_seq, limit)

        return self._read(found)

    def occupied(self, service: str, keys: Sequence[str]) -> set[str]:
        lanes = self._content.lanes
        return self._read(lambda: {key for key in keys if lanes.get((service, key))})

    def runnable(self, after_seq: int, limit: int) -> list[InvocationRow]:
        return self._read(
            lambda: self._first(filter(is_runnable, self._content.invocations.values()), after_seq, limit)
        )

    def expired(self, now_ms: int, limit: int) -> list[str]:
        def found() -> list[str]:
            expired = (
                (row.expires_ms, row.id)
                for row in self._content.invocations.values()
                if row.status is Status.COMPLETED and row.expires_ms is not None and row.expires_ms <= now_ms
            )
            return [invocation for _, invocation in heapq.nsmallest(limit, expired)]

        return self._read(found)

    def _first(self, rows: Iterable[InvocationRow], after_seq: int, limit: int) -> list[InvocationRow]:
        behind = (row for row in rows if row.seq > after_seq)
        return [copy_row(row) for row in heapq.nsmallest(limit, behind, key=lambda row: row.seq)]
