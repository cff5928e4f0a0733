"""Signals: one may be older than the command that waits for it, or the other way round."""

from __future__ import annotations

import pytest

from streamstate.journal import Command, Entry, Kind, Machine, SignalArrived, Success


def waits(name: str) -> Command:
    return Command(Kind.SIGNAL, name)


def arrived(name: str, value: str = "1") -> SignalArrived:
    return SignalArrived(name, Success(value.encode()), 5)


def feed(*entries: Entry) -> Machine:
    machine = Machine()
    for entry in entries:
        if isinstance(entry, Command):
            machine.issue(entry)
        else:
            machine.arrive(entry)
    return machine


def matches(machine: Machine) -> list[tuple[int, SignalArrived]]:
    found = []
    while (match := machine.match_signal()) is not None:
        found.append(match)
    return found


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([arrived("go")], [], id="nobody waits"),
        pytest.param([waits("go")], [], id="nothing arrived"),
        pytest.param([waits("go"), arrived("go")], [(0, arrived("go"))], id="the wait is older"),
        pytest.param([arrived("go"), waits("go")], [(0, arrived("go"))], id="the signal is older"),
        pytest.param([waits("go"), arrived("stop")], [], id="another name"),
        pytest.param(
            [waits("go"), waits("go"), arrived("go", "1"), arrived("go", "2")],
            [(0, arrived("go", "1")), (1, arrived("go", "2"))],
            id="first come, first served",
        ),
        pytest.param(
            [arrived("go", "1"), arrived("go", "2"), waits("go")],
            [(0, arrived("go", "1"))],
            id="one wait takes one signal",
        ),
        pytest.param(
            [waits("b"), waits("a"), arrived("a"), arrived("b")],
            [(0, arrived("b")), (1, arrived("a"))],
            id="names in the order of their first wait",
        ),
    ],
)
def test_signals_match_waits(entries: list[Entry], expected: list[tuple[int, SignalArrived]]) -> None:
    machine = feed(*entries)
    assert matches(machine) == expected
    assert machine.match_signal() is None


def test_a_matched_wait_is_no_longer_pending() -> None:
    machine = feed(waits("go"), arrived("go"))
    assert list(machine.pending) == [0]
    machine.match_signal()
    assert machine.pending == {}


def test_a_match_is_the_same_on_replay() -> None:
    machine = Machine([waits("go"), waits("go"), arrived("go", "1"), waits("go"), arrived("go", "2")])
    machine.issue(waits("go"))
    machine.issue(waits("go"))
    machine.advance()
    assert matches(machine) == [(0, arrived("go", "1"))]
    machine.issue(waits("go"))
    machine.advance()
    assert matches(machine) == [(1, arrived("go", "2"))]
    assert list(machine.pending) == [2]


def test_a_forgotten_wait_takes_no_signal() -> None:
    machine = feed(waits("go"), waits("go"))
    machine.forget(0)
    machine.arrive(arrived("go"))
    assert matches(machine) == [(1, arrived("go"))]
