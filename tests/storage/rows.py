"""Rows and batches, with defaults for what a test does not care about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from streamstate.storage import Batch, InvocationRow, Origin, OutboxMessage, Status, Store, TimerRow


@dataclass(slots=True)
class OpenStore:
    """A store and the way to restart it."""

    store: Store
    _reopen: Callable[[Store], Store]

    def restart(self) -> Store:
        self.store = self._reopen(self.store)
        return self.store

    def before_and_after_a_restart(self) -> Iterator[Store]:
        yield self.store
        yield self.restart()


def row(
    name: str,
    seq: int = 1,
    status: Status = Status.READY,
    *,
    key: str = "k",
    lane: bool = True,
    expires_ms: int | None = None,
) -> InvocationRow:
    return InvocationRow(
        name, seq, "Order", "create", key, lane, status, b"input", Origin(), created_ms=1_000, expires_ms=expires_ms
    )


def accepted(*rows: InvocationRow) -> Batch:
    return Batch(invocations={each.id: each for each in rows})


def timers(*rows: TimerRow) -> Batch:
    return Batch(timers={each.id: each for each in rows})


def message(position: int, cluster: str = "main", value: bytes | None = b"v") -> OutboxMessage:
    return OutboxMessage(position, cluster, "topic", b"key", value, (("h", b"1"), ("h", b"2")), f"id-{position}")


def one_value(number: int) -> Batch:
    """A batch that is whole only if the state, the position and the clock agree."""
    return Batch(
        state={("Order", "a"): {"n": b"%d" % number}, ("Order", f"key-{number}"): {"n": b"%d" % number}},
        positions={("orders", "topic", "topic-id", 0): number},
        clock_ms=number,
    )


def ids(rows: list[InvocationRow]) -> list[str]:
    return [each.id for each in rows]
