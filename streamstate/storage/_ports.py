"""The port of the durable store.

S1  `commit` makes a whole batch durable before it returns, or raises CommitFailedError and makes nothing of it visible.
S2  Commits become durable in the order of the calls; a recovered store is a prefix of them.
S3  Readers see every commit that has returned, and nothing of one that has not.
S4  One process owns a store at a time; a second one is refused by name.

`commit` is called by one thread, the readers by one other; neither waits for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from streamstate.journal import Entry, Outcome
from streamstate.storage._rows import (
    Batch,
    Header,
    InvocationRow,
    OutboxMessage,
    PositionId,
    PromiseId,
    TimerRow,
)


class InvocationReader(Protocol):
    """Reads invocations and what belongs to them."""

    def get(self, invocation: str) -> InvocationRow | None: ...

    def journal(self, invocation: str) -> list[Entry]:
        """Its entries, in order."""
        ...

    def timers(self, invocation: str) -> list[TimerRow]: ...

    def lane(self, service: str, key: str, after_seq: int, limit: int) -> list[InvocationRow]:
        """Those that take their turn on this key and have neither completed nor are scheduled, by seq."""
        ...

    def occupied(self, service: str, keys: Sequence[str]) -> set[str]:
        """Those of these keys that have any invocation in their lane."""
        ...

    def runnable(self, after_seq: int, limit: int) -> list[InvocationRow]:
        """Those that are pending, ready or running, by seq: what a start must look at."""
        ...

    def expired(self, now_ms: int, limit: int) -> list[str]:
        """Ids of completed ones whose `expires_ms` is at or before now."""
        ...


class Store(Protocol):
    """The durable store of one application."""

    @property
    def header(self) -> Header:
        """What the store said of itself when it was opened."""
        ...

    @property
    def invocations(self) -> InvocationReader: ...

    def commit(self, batch: Batch) -> None: ...

    def state(self, service: str, key: str) -> dict[str, bytes]:
        """All state of one object."""
        ...

    def states(self, service: str, keys: Sequence[str]) -> dict[str, dict[str, bytes]]:
        """All state of these objects, by key; an object without state is left out."""
        ...

    def positions(self) -> dict[PositionId, int]:
        """For every partition read so far, the offset of the next record."""
        ...

    def timers(self, after: tuple[int, str, str, int] | None, limit: int) -> list[TimerRow]:
        """Timers ordered by (fire_ms, invocation, kind, index), those behind `after`."""
        ...

    def trials(self) -> dict[str, int]:
        """What commits have noted about suspects: by invocation, how often the process has ended while it ran."""
        ...

    def outbox(self, cluster: str, after: int, limit: int) -> list[OutboxMessage]: ...

    def promise(self, promise: PromiseId) -> Outcome | None: ...

    def waiters(self, awaited: str) -> list[tuple[str, int]]:
        """Who waits for this: pairs of invocation and command index, in the order of their insertion."""
        ...

    def close(self) -> None: ...
