"""What the demo shows: a live table on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from food_ordering.checker import Check
from food_ordering.model import OrderStatus

PLAIN_LINE_S = 2.0
FAULTS_SHOWN = 5
INDENT = "  "
# Together with the rules between them 60 columns, and 24 lines at most: the smallest terminal still shows it whole.
LABEL_WIDTH, NUMBER_WIDTH, BAR_WIDTH = 25, 14, 13

STYLES = {OrderStatus.DELIVERED: "green", OrderStatus.REJECTED: "yellow", OrderStatus.CANCELLED: "yellow"}
STYLE_UNDER_WAY = "cyan"


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

    def end(self, snapshot: Snapshot) -> None:
        """Show the last one."""
        ...


class LiveTable:
    """One table that changes in place."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, snapshot: Snapshot) -> None:
        self._live.update(render(snapshot))

    def end(self, snapshot: Snapshot) -> None:
        self.show(snapshot)


class PlainLines:
    """A line every few seconds, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_s = 0.0

    def show(self, snapshot: Snapshot) -> None:
        if snapshot.elapsed_s >= self._next_s:
            self._next_s = snapshot.elapsed_s + PLAIN_LINE_S
            self.end(snapshot)

    def end(self, snapshot: Snapshot) -> None:
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
    kills = f"  killed {snapshot.kills}" if snapshot.kills else ""
    return (
        f"{snapshot.elapsed_s:5.1f} s  orders placed {snapshot.placed}{total}, decided {snapshot.decided}"
        f"  drivers busy {snapshot.drivers_busy}/{snapshot.drivers}"
        f"  updates applied {snapshot.updates_applied}/{snapshot.updates_sent}{kills}"
    )


def render(snapshot: Snapshot) -> Table:
    """The table."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    total = "" if snapshot.orders is None else f" of {snapshot.orders}"
    table.add_column("orders placed", width=LABEL_WIDTH)
    table.add_column(f"{snapshot.placed}{total}", width=NUMBER_WIDTH, justify="right")
    table.add_column("", width=BAR_WIDTH)
    for status in OrderStatus:
        count = snapshot.by_status[status]
        style = STYLES.get(status, STYLE_UNDER_WAY)
        table.add_row(
            Text(status, style=style if count else "dim"), str(count), Text(_bar(count, snapshot), style=style)
        )
    table.add_section()
    table.add_row("drivers with work", f"{snapshot.drivers_busy} of {snapshot.drivers}")
    table.add_row("location updates applied", f"{snapshot.updates_applied} of {snapshot.updates_sent}")
    table.add_row("updates a second", f"{snapshot.updates_per_s:.0f}")
    if snapshot.kills:
        table.add_row(Text("worker killed", style="bold red"), f"{snapshot.kills} times")
        table.add_row("messages sent again", str(snapshot.repeated))
    table.add_row("time", f"{snapshot.elapsed_s:.0f} s")
    return table


def _bar(count: int, snapshot: Snapshot) -> str:
    return "█" * math.ceil(BAR_WIDTH * count / max(snapshot.placed, 1))


def show_checks(console: Console, checks: Sequence[Check]) -> None:
    """What was checked, and what speaks against it."""
    console.print("\nchecked, from the topics and the bank's books alone:", highlight=False)
    for check in checks:
        mark = Text("✓ ", style="green") if check.is_kept else Text("✗ BROKEN: ", style="bold red")
        console.print(mark + Text(check.promise, style="default"), soft_wrap=True)
        console.print(Text(f"{INDENT}{check.seen}", style="dim"), soft_wrap=True)
        for fault in check.faults[:FAULTS_SHOWN]:
            console.print(Text(f"{INDENT}! {fault}", style="red"), soft_wrap=True)
        if len(check.faults) > FAULTS_SHOWN:
            console.print(Text(f"{INDENT}and {len(check.faults) - FAULTS_SHOWN} more"))


def show_summary(console: Console, checks: Sequence[Check], elapsed_s: float, has_more: bool) -> None:
    """The last line; `has_more` where the demo has not yet been played at its hardest."""
    broken = sum(not check.is_kept for check in checks)
    if broken:
        summary = Text(f"{broken} of {len(checks)} promises were broken, after {elapsed_s:.0f} s", style="bold red")
    else:
        summary = Text(f"all {len(checks)} promises kept, in {elapsed_s:.0f} s", style="bold green")
        if has_more:
            summary += Text("\n(with --chaos, the worker is killed on the way)", style="default")
    console.print()
    console.print(summary, soft_wrap=True)
