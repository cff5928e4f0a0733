"""Random handlers, driven live and then again over every prefix of their log (J1 to J4)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
    Outcome,
    Phase,
    SignalArrived,
    Success,
    pending_in,
)
from tests.properties import examples

DEFERRED = (Kind.RUN, Kind.GET, Kind.SLEEP, Kind.CALL, Kind.AWAKEABLE, Kind.PROMISE, Kind.PEEK_PROMISE, Kind.ATTACH)
ANSWERED = (Kind.SET, Kind.CLEAR, Kind.CLEAR_ALL, Kind.SEND, Kind.PUBLISH, Kind.TIME, Kind.CANCEL)
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Success, st.none() | st.binary(max_size=2)), st.builds(Failure, st.just(409), st.just("no"))
)
NAMES = st.sampled_from(["a", "b"])

# What a handler and its driver did to a machine, so that it can be done again.
Deed: TypeAlias = tuple[str, Entry | int | None]


class Handlers(RuleBasedStateMachine):
    """One handler on one machine, and a model of what its journal must be."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine((), "Cart/k.pay")
        self.deeds: list[Deed] = []
        self.log: list[Entry] = []
        self.pending: dict[int, Command] = {}
        self.deferred: set[int] = set()
        self.signals: dict[str, list[SignalArrived]] = {}
        self.clock = itertools.count()

    @initialize(first=st.sampled_from(ANSWERED))
    def begins(self, first: str) -> None:
        self._issue(Command(first, "a"))

    @rule(kind=st.sampled_from(DEFERRED), name=NAMES, body=st.none() | st.binary(max_size=2))
    def asks(self, kind: str, name: str, body: bytes | None) -> None:
        self._issue(Command(kind, name, body=body, site="shop.py:1"))

    @rule(kind=st.sampled_from((*ANSWERED, Kind.GET)), name=NAMES, answer=OUTCOMES)
    def does(self, kind: str, name: str, answer: Outcome) -> None:
        self._issue(Command(kind, name, result=answer, site="shop.py:2"))

    @rule(name=NAMES)
    def waits_for_a_signal(self, name: str) -> None:
        self._issue(Command(Kind.SIGNAL, name))

    @precondition(lambda self: self._completable())
    @rule(choice=st.integers(0, 99), outcome=OUTCOMES)
    def gets_an_answer(self, choice: int, outcome: Outcome) -> None:
        waiting = self._completable()
        index = waiting[choice % len(waiting)]
        self._arrive(Completion(index, outcome, next(self.clock)))
        del self.pending[index]

    @rule(name=NAMES, outcome=OUTCOMES)
    def gets_a_signal(self, name: str, outcome: Outcome) -> None:
        arrived = SignalArrived(name, outcome, next(self.clock))
        self._arrive(arrived)
        self.signals.setdefault(name, []).append(arrived)

    @rule()
    def is_cancelled(self) -> None:
        self._arrive(CancelArrived(next(self.clock)))

    @precondition(lambda self: self.pending)
    @rule(choice=st.integers(0, 99))
    def waits_no_more(self, choice: int) -> None:
        index = sorted(self.pending)[choice % len(self.pending)]
        self.machine.forget(index)
        self.deeds.append(("forget", index))
        del self.pending[index]

    @rule()
    def looks_for_signals(self) -> None:
        matched = self.machine.match_signal()
        self.deeds.append(("match", None))
        fits = [i for i, command in self.pending.items() if command.kind == Kind.SIGNAL and self._signal_of(command)]
        assert (matched is None) == (not fits)
        if matched is not None:
            index, signal = matched
            name = self.pending[index].name
            waiting = [i for i, command in self.pending.items() if (command.kind, command.name) == (Kind.SIGNAL, name)]
            assert index == min(waiting), "the first wait gets the first signal"
            assert signal is self.signals[name].pop(0)
            del self.pending[index]

    @invariant()
    def keeps_one_linear_log(self) -> None:
        """J1, J2: entries stand in the order in which they happened, and a command has the index of its issue."""
        assert self.machine.log == self.log
        assert self.machine.commands == sum(isinstance(entry, Command) for entry in self.log)
        assert self.machine.pending == self.pending
        answered = {entry.index for entry in self.log if isinstance(entry, Completion)}
        assert set(pending_in(self.log)) == self.deferred - answered

    def teardown(self) -> None:
        for cut in range(len(self.log) + 1):
            self._replay_from(self.log[:cut])
        places = [place for place, entry in enumerate(self.log) if isinstance(entry, Command)]
        for place in places:
            self._find_mismatch(place, places.index(place))
        self.machine.end()
        assert self.machine.phase is Phase.ENDED

    def _completable(self) -> list[int]:
        return sorted(index for index, command in self.pending.items() if command.kind != Kind.SIGNAL)

    def _signal_of(self, command: Command) -> bool:
        return bool(self.signals.get(command.name))

    def _issue(self, command: Command) -> None:
        index = self.machine.commands
        assert self.machine.is_next_new()
        assert self.machine.issue(command) is command
        self.deeds.append(("issue", command))
        self.log.append(command)
        if command.result is None and command.kind in (*DEFERRED, Kind.SIGNAL):
            self.pending[index] = command
            self.deferred.add(index)

    def _arrive(self, arrival: Arrival) -> None:
        self.machine.arrive(arrival)
        self.deeds.append(("arrive", arrival))
        self.log.append(arrival)

    def _replay_from(self, prefix: list[Entry]) -> None:
        """J2: whatever part of the log was kept, the same handler goes on from it to the same log."""
        again = Machine(prefix, self.machine.label)
        for deed in self.deeds:
            _do_again(again, deed)
        assert again.advance() is None
        assert again.phase is Phase.LIVE
        assert again.log == self.log
        assert again.commands == self.machine.commands
        assert again.pending == self.machine.pending
        assert again.match_signal() == _driven(self.deeds).match_signal()

    def _find_mismatch(self, place: int, number: int) -> None:
        """J4: a handler that does something else at this place is found there, and the machine stays as it is."""
        again = Machine(self.log, self.machine.label)
        command = self.log[place]
        assert isinstance(command, Command)
        other = msgspec.structs.replace(command, name=command.name + "!")
        with pytest.raises(JournalMismatchError, match=rf"at command {number}\."):
            for deed in self.deeds:
                _do_again(again, ("issue", other) if deed[1] is command else deed)
        before = (list(again.log), again.commands, dict(again.pending))
        assert again.phase is Phase.BROKEN
        refused: list[Callable[[], object]] = [
            lambda: again.issue(command),
            lambda: again.arrive(CancelArrived(0)),
            again.end,
        ]
        for refusal in refused:
            with pytest.raises(RuntimeError, match="is broken"):
                refusal()
        again.forget(next(iter(again.pending), 0))
        assert again.match_signal() is None
        assert again.advance() is None
        assert (again.log, again.commands, again.pending) == before
        assert again.log == self.log


def _driven(deeds: list[Deed]) -> Machine:
    machine = Machine()
    for deed in deeds:
        _do_again(machine, deed)
    return machine


def _do_again(machine: Machine, deed: Deed) -> None:
    match deed:
        case "issue", Command() as command:
            attempt = command
            if command.result is not None and not machine.is_next_new():
                # A replayed handler does not know the answers, and may have moved in its file.
                attempt = msgspec.structs.replace(command, result=None, site="elsewhere.py:9")
            assert machine.issue(attempt) == command
        case "arrive", Completion() | SignalArrived() | CancelArrived() as arrival:
            delivered = machine.advance()
            if delivered is None:
                machine.arrive(arrival)
            else:
                assert delivered == arrival
        case "forget", int(index):
            machine.forget(index)
        case _:
            machine.match_signal()


TestHandlers = Handlers.TestCase
TestHandlers.settings = examples(40, steps=25)
