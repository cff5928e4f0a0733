"""What the demo shows while it runs, and at its end."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from food_ordering.checker import Check
from food_ordering.display import LiveTable, PlainLines, Snapshot, display, plain, render, show_checks, show_summary
from food_ordering.model import OrderStatus

BY_STATUS = Counter({OrderStatus.DELIVERED: 5, OrderStatus.CANCELLED: 1, OrderStatus.IN_DELIVERY: 2})


def test_a_line_says_how_far_it_is() -> None:
    assert plain(snapshot(4.0)) == (
        "  4.0 s  orders placed 8/80, decided 6  drivers busy 2/24  updates applied 300/310  killed 3"
    )


def test_the_table_has_a_row_for_every_status() -> None:
    console = recorded()
    console.print(render(snapshot(4.0)))
    shown = printed(console)
    assert all(status in shown for status in OrderStatus)
    assert "300 of 310" in shown


def test_without_a_terminal_a_line_comes_now_and_then() -> None:
    console = recorded()
    with display(console) as shown:
        assert isinstance(shown, PlainLines)
        for elapsed_s in (0.0, 0.2, 1.9, 2.1, 2.3):
            shown.show(snapshot(elapsed_s))
        shown.end(snapshot(2.4))
    assert [line.split()[0] for line in printed(console).splitlines()] == ["0.0", "2.1", "2.4"]


def test_on_a_terminal_the_table_is_live() -> None:
    console = Console(file=io.StringIO(), width=120, height=40, force_terminal=True)
    with display(console) as shown:
        assert isinstance(shown, LiveTable)
        shown.show(snapshot(4.0))
    assert "300 of 310" in printed(console)


@pytest.mark.parametrize(
    ("faults", "lines"),
    [
        ((), ["✓ nothing is lost", "  8 orders"]),
        (("order-1 is gone",), ["✗ BROKEN: nothing is lost", "  8 orders", "  ! order-1 is gone"]),
    ],
)
def test_a_check_shows_its_faults(faults: tuple[str, ...], lines: list[str]) -> None:
    console = recorded()
    show_checks(console, [Check("nothing is lost", "8 orders", faults)])
    assert printed(console).splitlines()[2:] == lines


@pytest.mark.parametrize(
    ("faults", "summary"),
    [
        ((), "all 2 promises kept, in 27 s"),
        (("order-1 is gone",), "1 of 2 promises were broken, after 27 s"),
    ],
)
def test_the_last_line_counts_the_promises(faults: tuple[str, ...], summary: str) -> None:
    console = recorded()
    checks = [Check("nothing is lost", "8 orders", faults), Check("nothing is twice", "8 orders", ())]
    show_summary(console, checks, 27.2, has_more=False)
    assert printed(console).splitlines()[-1] == summary


def test_the_table_fits_a_small_terminal() -> None:
    console = recorded()
    console.print(render(snapshot(4.0)))
    lines = printed(console).splitlines()
    assert max(map(len, lines)) <= 60
    assert len(lines) <= 20


def test_of_many_faults_the_first_are_shown() -> None:
    console = recorded()
    show_checks(console, [Check("nothing is lost", "8 orders", tuple(f"order-{n} is gone" for n in range(12)))])
    assert printed(console).splitlines()[-1].strip() == "and 7 more"


def snapshot(elapsed_s: float) -> Snapshot:
    return Snapshot(
        elapsed_s=elapsed_s,
        orders=80,
        placed=8,
        drivers=24,
        drivers_busy=2,
        updates_sent=310,
        updates_applied=300,
        kills=3,
        repeated=1,
        by_status=BY_STATUS,
    )


def recorded() -> Console:
    return Console(file=io.StringIO(), width=120, force_terminal=False)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
