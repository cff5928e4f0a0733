"""A store that is worked with, and what it must hold after each commit."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamstate.journal import CancelArrived, Success
from streamstate.storage import Batch, OutboxMessage, SqliteStore, Status, TimerRow
from tests.storage.rows import row

POSITION = ("orders", "topic", "topic-id", 0)
TABLES = ("object_state", "positions", "invocations", "journal", "timers", "waiters", "promises", "outbox")

Content = tuple[tuple[tuple[Any, ...], ...], ...]


def batch(number: int) -> Batch:
    """The batch of this number: something of everything, in place, growing and shrinking."""
    choose = random.Random(number)
    made = Batch(positions={POSITION: number}, clock_ms=1_000 + number)
    made.state["Order", "a"] = {"n": b"%d" % number}
    for key in choose.sample(range(60), 12):
        made.state["Order", f"key-{key:02}"] = {"n": b"%d" % number, "pad": b"%d " % number * choose.randrange(250)}
    made.state["Order", f"key-{choose.randrange(60):02}"] = {"pad": None}
    name = f"inv_{number:03}"
    made.invocations[name] = row(name, number, Status.SUSPENDED, key=f"k{number % 5}")
    made.journal[name] = (0, [CancelArrived(number)] * (number % 4 + 1))
    made.timers[name, "sleep", 0] = TimerRow(5_000 + number, name, "sleep", 0)
    made.waiters["awaited", name, 0] = True
    if number > 4:
        made.invocations[f"inv_{number - 4:03}"] = None
    made.promises["Contract", f"c{number % 3}", "signed"] = Success(b"%d" % number)
    made.outbox.append(OutboxMessage(number, "main", "topic", b"k", b"%d" % number, (), f"id-{number}"))
    if number % 3 == 0:
        made.outbox_done["main"] = number - 1
    return made


def content(store: SqliteStore) -> Content:
    """Everything that commits have put there, but the columns that come from openings.

    Raises:
        StorageError: by the store's own names.
    """
    reading = store._reading
    # Not the ordinals of waiters: they say an order, and not a number.
    return tuple(
        tuple(reading.rows(f"SELECT * FROM {table} ORDER BY 1, 2, 3"))
        if table != "waiters"
        else tuple(reading.rows("SELECT awaited, invocation, idx FROM waiters ORDER BY ordinal"))
        for table in TABLES
    )


def last_number(store: SqliteStore) -> int:
    return store.positions().get(POSITION, 0)


@dataclass(slots=True)
class Expected:
    """The content after each number of commits."""

    after: list[Content] = field(default_factory=list)

    @classmethod
    def of(cls, directory: Path, commits: int) -> Expected:
        store = SqliteStore.open(directory)
        expected = cls([content(store)])
        for number in range(1, commits + 1):
            store.commit(batch(number))
            expected.after.append(content(store))
        store.close()
        return expected

    def check(self, store: SqliteStore, at_least: int, at_most: int) -> int:
        """The store is a prefix within these bounds; which one."""
        number = last_number(store)
        assert at_least <= number <= at_most, f"commits {at_least} to {at_most} are possible, and {number} is there"
        assert content(store) == self.after[number], f"the content is not that of commit {number}"
        assert store._writer.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return number


def work(store: SqliteStore, last: int, told: Callable[[str, int], None] = lambda _what, _number: None) -> None:
    """Commit up to this number, reading now and then; `told` hears of commits that begin and of those that returned."""
    for number in range(last_number(store) + 1, last + 1):
        told("begun", number)
        store.commit(batch(number))
        told("acknowledged", number)
        assert store.state("Order", "a") == {"n": b"%d" % number}
