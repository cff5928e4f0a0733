"""What the demo shows: a live table on a terminal, a line now and then anywhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from food_ordering.checker import Check
from food_ordering.model import OrderStatus

PLAIN_LINE_S = 2.0
FAULTS_SHOWN = 5
WIDTH, BAR_WIDTH = 60, 24

STYLES = {OrderStatus.DELIVERED: "green", OrderStatus.REJECTED: "yellow", OrderStatus.CANCELLED: "yellow"}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The demo at one moment."""

    elapsed_s: float
    orders: int | None
    placed: int
    drivers: int
    drivers_busy: int
    updates_sent: int
    updates_applied: int
    kills: int
    repeated: int
    by_status: Counter[OrderStatus] = field(default_factory=Counter)

    @property
    def decided(self) -> int:
        return sum(count for status, count in self.by_status.items() if status.is_final)

    @property
    def updates_per_s(self) -> float:
        return self.updates_applied / self.elapsed_s if self.elapsed_s else 0.0


class Display(Protocol):
    """Shows snapshots as they come."""

    def show(self, snapshot: Snapshot) -> None: ...


class LiveTable:
    """One table that changes in place."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, snapshot: Snapshot) -> None:
        self._live.update(render(snapshot))


class PlainLines:
    """A line every few seconds, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_s = 0.0

    def show(self, snapshot: Snapshot) -> None:
        if snapshot.elapsed_s >= self._next_s:
            self._next_s = snapshot.elapsed_s + PLAIN_LINE_S
            self._console.print(plain(snapshot), highlight=False, soft_wrap=True)


@contextmanager
def display(console: Console) -> Iterator[Display]:
    """The display that suits the console."""
    if not console.is_terminal:
        yield PlainLines(console)
        return
    with Live(console=console, refresh_per_second=8) as live:
        yield LiveTable(live)


def plain(snapshot: Snapshot) -> str:
    """One line."""
    total = "" if snapshot.orders is None else f"/{snapshot.orders}"
    return (
        f"{snapshot.elapsed_s:5.1f} s  orders {snapshot.decided} decided of {snapshot.placed}{total} placed"
        f"  drivers {snapshot.drivers_busy}/{snapshot.drivers} busy"
        f"  updates {snapshot.updates_applied}/{snapshot.updates_sent} applied ({snapshot.updates_per_s:.0f}/s)"
        f"  kills {snapshot.kills}"
    )


def render(snapshot: Snapshot) -> Group:
    """The table."""
    orders = Table(width=WIDTH)
    orders.add_column("orders", ratio=1)
    orders.add_column("", justify="right")
    orders.add_column("", width=BAR_WIDTH)
    for status in OrderStatus:
        count = snapshot.by_status[status]
        bar = ProgressBar(max(snapshot.placed, 1), count, width=BAR_WIDTH)
        orders.add_row(Text(status, style=STYLES.get(status, "")), str(count), bar)
    facts = Table(width=WIDTH, show_header=False)
    facts.add_column("", ratio=1)
    facts.add_column("", justify="right")
    total = "" if snapshot.orders is None else f" of {snapshot.orders}"
    facts.add_row("orders placed", f"{snapshot.placed}{total}")
    facts.add_row("drivers with work", f"{snapshot.drivers_busy} of {snapshot.drivers}")
    facts.add_row("location updates applied", f"{snapshot.updates_applied} of {snapshot.updates_sent}")
    facts.add_row("updates a second", f"{snapshot.updates_per_s:.0f}")
    facts.add_row("worker killed", f"{snapshot.kills} times")
    facts.add_row("messages sent again", str(snapshot.repeated))
    facts.add_row("time", f"{snapshot.elapsed_s:.0f} s")
    return Group(orders, facts)


def show_checks(console: Console, checks: Sequence[Check]) -> None:
    """What was checked, and what speaks against it."""
    for check in checks:
        mark = Text("✓ kept   ", style="green") if check.is_kept else Text("✗ broken ", style="bold red")
        console.print(mark + Text(f"{check.promise}: {check.seen}", style="default"), soft_wrap=True)
        for fault in check.faults[:FAULTS_SHOWN]:
            console.print(Text(f"           {fault}"), soft_wrap=True)
        if len(check.faults) > FAULTS_SHOWN:
            console.print(Text(f"           and {len(check.faults) - FAULTS_SHOWN} more"))
