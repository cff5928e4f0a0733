"""Random programs: recorded live, replayed, and replayed with one thing changed."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamstate.errors import JournalMismatchError
from streamstate.journal import (
    Arrival,
    CancelArrived,
    Command,
    Completion,
    Entry,
    Failure,
    Kind,
    Machine,
    Option,
    Outcome,
    Phase,
    SignalArrived,
    Success,
)
from tests.properties import examples

KINDS = [value for name, value in vars(Kind).items() if name.isupper()]
NAMES = st.sampled_from(["", "a", "b", "Cart/pay"])
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Success, st.none() | st.binary(max_size=3)), st.builds(Failure, st.just(409), st.just("no"))
)
VALUES: st.SearchStrategy[Option] = st.one_of(st.integers(0, 9), st.just("x"), st.just(b"x"), st.just({"h": "1"}))
OPTIONS = st.none() | st.dictionaries(st.sampled_from(["wake_ms", "headers"]), VALUES, min_size=1, max_size=2)
COMMANDS = st.builds(
    Command,
    st.sampled_from(KINDS),
    NAMES,
    st.none() | st.sampled_from(["", "k1"]),
    st.none() | st.binary(max_size=2),
    OPTIONS,
    st.none() | OUTCOMES,
    st.just("shop.py:1"),
)
# A program: how many commands a turn issues is up to the lists; then one arrival comes.
PROGRAMS = st.lists(st.tuples(st.lists(COMMANDS, max_size=3), st.integers(0, 10**6)), min_size=1, max_size=8)


def arrival_for(machine: Machine, choice: int) -> Arrival | None:
    chosen = random.Random(choice)
    waiting = [i for i, command in machine.pending.items() if command.kind != Kind.SIGNAL]
    options: list[Arrival] = [Completion(index, Success(b"%d" % choice), choice) for index in waiting]
    options.append(CancelArrived(choice))
    options.extend(SignalArrived(name, Success(b"s"), choice) for name in ("a", "b"))
    return chosen.choice([*options, None])


def record(program: Sequence[tuple[Sequence[Command], int]]) -> Machine:
    machine = Machine()
    for commands, choice in program:
        for command in commands:
            machine.issue(command)
        while machine.match_signal() is not None:
            pass
        if (arrival := arrival_for(machine, choice)) is not None:
            machine.arrive(arrival)
    return machine


def run_again(log: Sequence[Entry], code: Sequence[Entry]) -> tuple[Machine, list[Outcome | None]]:
    """Drive a machine over `log` with a handler that does what `code` says; also gives what its commands returned."""
    machine = Machine(log, "Cart/k1.pay")
    results: list[Outcome | None] = []
    for entry in code:
        if isinstance(entry, Command):
            issued = machine.issue(msgspec.structs.replace(entry, result=None, site="moved.py:2"))
            results.append(issued.result)
        else:
            while machine.match_signal() is not None:
                pass
            assert machine.advance() == entry
    return machine, results


@examples(60)
@given(PROGRAMS)
def test_a_replay_issues_the_same_and_delivers_the_same(program: list[tuple[list[Command], int]]) -> None:
    live = record(program)
    again, results = run_again(live.log, live.log)
    assert results == [entry.result for entry in live.log if isinstance(entry, Command)]
    while again.match_signal() is not None:
        pass
    while live.match_signal() is not None:
        pass
    assert again.log == live.log
    assert again.commands == live.commands
    assert again.pending == live.pending
    again.end()
    assert again.phase is Phase.ENDED


def changed(command: Command, field: str) -> Command:
    value = getattr(command, field)
    other: object
    if field == "options":
        other = {**(value or {}), "another": 1}
    elif field == "body":
        other = (value or b"") + b"!"
    elif field == "kind":
        other = KINDS[(KINDS.index(value) + 1) % len(KINDS)]
    else:
        other = (value or "") + "!"
    return msgspec.structs.replace(command, **{field: other})


@examples(60)
@given(PROGRAMS, st.sampled_from(["kind", "name", "key", "body", "options"]), st.integers(0, 10**6))
def test_one_changed_field_is_found_at_its_command(
    program: list[tuple[list[Command], int]], field: str, choice: int
) -> None:
    log = record(program).log
    places = [place for place, entry in enumerate(log) if isinstance(entry, Command)]
    if not places:
        return
    place = places[choice % len(places)]
    entry = log[place]
    assert isinstance(entry, Command)
    code = [*log[:place], changed(entry, field), *log[place + 1 :]]
    with pytest.raises(JournalMismatchError, match=f"at command {places.index(place)}\\."):
        run_again(log, code)


@examples(60)
@given(PROGRAMS, st.integers(0, 10**6))
def test_one_command_left_out_is_found(program: list[tuple[list[Command], int]], choice: int) -> None:
    log = record(program).log
    places = [place for place, entry in enumerate(log) if isinstance(entry, Command)]
    if not places:
        return
    place = places[choice % len(places)]
    code = [*log[:place], *log[place + 1 :]]
    with pytest.raises(JournalMismatchError):
        run_again(log, code)[0].end()


@examples(60)
@given(PROGRAMS, COMMANDS, st.integers(0, 10**6))
def test_one_command_too_many_is_found(program: list[tuple[list[Command], int]], extra: Command, choice: int) -> None:
    log = record(program).log
    place = choice % (len(log) + 1)
    if all(isinstance(entry, Command) for entry in log[place:]):
        return  # behind the last arrival it may be equal to what follows, or be new
    code = [*log[:place], msgspec.structs.replace(extra, name="extra"), *log[place:]]
    with pytest.raises(JournalMismatchError):
        run_again(log, code)
