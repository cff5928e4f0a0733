"""The machine, case by case. A case reads as a journal: what is recorded, what happens, what is then the case."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from streamstate.errors import JournalMismatchError
from streamstate.journal import (
    TRANSITIONS,
    Arrival,
    CancelArrived,
    Command,
    Completion,
    Entry,
    Failure,
    Kind,
    Machine,
    Phase,
    SignalArrived,
    Step,
    Success,
)

CHARGE = Command(Kind.RUN, "charge", site="shop.py:7")
STORE = Command(Kind.SET, "total", body=b"1", site="shop.py:8")
READ = Command(Kind.GET, "total", result=Success(b"1"), site="shop.py:9")
CHARGED = Completion(0, Success(b'"ok"'), 1_000)
CANCELLED = CancelArrived(1_500)
SIGNALLED = SignalArrived("go", Success(b"1"), 1_200)


def replaying(*recorded: Entry) -> Machine:
    return Machine(recorded or (CHARGE,), "Cart/k1.pay")


def live() -> Machine:
    return Machine((), "Cart/k1.pay")


def ended() -> Machine:
    machine = live()
    machine.end()
    return machine


def broken() -> Machine:
    machine = replaying(CHARGE)
    with pytest.raises(JournalMismatchError):
        machine.issue(STORE)
    return machine


MACHINES: dict[Phase, Callable[[], Machine]] = {
    Phase.REPLAYING: replaying,
    Phase.LIVE: live,
    Phase.ENDED: ended,
    Phase.BROKEN: broken,
}


STEPS: dict[Step, Callable[[Machine], object]] = {
    Step.ISSUED: lambda machine: machine.issue(CHARGE),
    Step.ARRIVED: lambda machine: machine.arrive(CHARGED),
    Step.ENDED: lambda machine: machine.end(),
}


@pytest.mark.parametrize("phase", Phase)
def test_a_machine_of_each_phase_can_be_made(phase: Phase) -> None:
    assert MACHINES[phase]().phase is phase


def test_the_table_of_transitions_is_this_one() -> None:
    assert TRANSITIONS == {
        (Phase.REPLAYING, Step.ISSUED): Phase.REPLAYING,
        (Phase.REPLAYING, Step.CAUGHT_UP): Phase.LIVE,
        (Phase.REPLAYING, Step.MISMATCHED): Phase.BROKEN,
        (Phase.LIVE, Step.ISSUED): Phase.LIVE,
        (Phase.LIVE, Step.ARRIVED): Phase.LIVE,
        (Phase.LIVE, Step.ENDED): Phase.ENDED,
    }


@pytest.mark.parametrize(("phase", "step"), [pair for pair in TRANSITIONS if pair[1] in STEPS])
def test_a_legal_step_leads_where_the_table_says(phase: Phase, step: Step) -> None:
    machine = MACHINES[phase]()
    STEPS[step](machine)
    assert machine.phase is TRANSITIONS[phase, step]


# A replaying machine that is told to end compares first: that is a mismatch, below.
ILLEGAL = [
    (phase, step)
    for phase in Phase
    for step in STEPS
    if (phase, step) not in TRANSITIONS and (phase, step) != (Phase.REPLAYING, Step.ENDED)
]


@pytest.mark.parametrize(("phase", "step"), ILLEGAL)
def test_an_illegal_step_is_refused_by_name_and_changes_nothing(phase: Phase, step: Step) -> None:
    machine = MACHINES[phase]()
    before = (machine.phase, list(machine.log), dict(machine.pending), machine.commands)
    with pytest.raises(RuntimeError) as caught:
        STEPS[step](machine)
    assert type(caught.value) is RuntimeError
    label = "Cart/k1.pay"
    assert str(caught.value) == f"cannot {step.value}: the journal of {label} is {phase.value}"
    assert (machine.phase, machine.log, machine.pending, machine.commands) == before


def test_a_new_machine_is_live_and_one_with_a_journal_replays() -> None:
    assert live().phase is Phase.LIVE
    assert replaying(CHARGE).phase is Phase.REPLAYING


def test_a_machine_catches_up_when_it_is_asked_whether_the_next_command_is_new() -> None:
    machine = replaying(CHARGE)
    assert not machine.is_next_new()
    machine.issue(CHARGE)
    assert machine.is_next_new()
    assert machine.phase is Phase.LIVE


def test_a_machine_catches_up_when_it_advances_past_the_end() -> None:
    machine = replaying(CHARGE)
    machine.issue(CHARGE)
    assert machine.advance() is None
    assert machine.phase is Phase.LIVE


def test_a_machine_catches_up_when_a_new_command_is_issued_behind_the_log() -> None:
    machine = replaying(CHARGE)
    machine.issue(CHARGE)
    machine.issue(STORE)
    assert machine.phase is Phase.LIVE
    assert machine.log == [CHARGE, STORE]


def test_a_machine_may_end_where_its_log_ends() -> None:
    machine = replaying(CHARGE)
    machine.issue(CHARGE)
    machine.end()
    assert machine.phase is Phase.ENDED


def test_a_live_machine_has_nothing_to_advance_to() -> None:
    assert live().advance() is None


def test_j1_commands_take_their_index_when_they_are_issued() -> None:
    machine = live()
    for expected, command in enumerate((CHARGE, STORE, READ, CHARGE)):
        assert machine.commands == expected
        machine.issue(command)
    assert list(machine.pending) == [0, 3]


def test_j1_indexes_on_replay_are_those_of_then() -> None:
    machine = replaying(CHARGE, STORE, CHARGED, CHARGE)
    machine.issue(CHARGE)
    machine.issue(STORE)
    assert machine.advance() == CHARGED
    assert machine.commands == 2
    machine.issue(CHARGE)
    assert list(machine.pending) == [2]


def test_j2_an_arrival_is_delivered_one_at_a_time_in_the_order_of_the_log() -> None:
    other = Completion(1, Success(b"2"), 900)
    machine = replaying(CHARGE, CHARGE, other, CHARGED, CANCELLED)
    machine.issue(CHARGE)
    machine.issue(CHARGE)
    assert [machine.advance() for _ in range(4)] == [other, CHARGED, CANCELLED, None]


def test_j2_a_command_waits_until_the_arrivals_before_it_are_delivered() -> None:
    machine = replaying(CHARGE, CHARGED, STORE)
    machine.issue(CHARGE)
    with pytest.raises(JournalMismatchError, match="it went on only when the next result arrived"):
        machine.issue(STORE)


def test_j2_live_arrivals_are_recorded_in_the_order_in_which_they_came() -> None:
    machine = live()
    machine.issue(CHARGE)
    machine.arrive(SIGNALLED)
    machine.issue(STORE)
    machine.arrive(CHARGED)
    assert machine.log == [CHARGE, SIGNALLED, STORE, CHARGED]


def test_j3_a_completed_index_is_no_longer_pending() -> None:
    machine = live()
    machine.issue(CHARGE)
    assert machine.pending == {0: CHARGE}
    machine.arrive(CHARGED)
    assert machine.pending == {}


def test_j3_a_recorded_arrival_is_never_replaced() -> None:
    machine = replaying(CHARGE, CHARGED)
    machine.issue(CHARGE)
    with pytest.raises(RuntimeError, match="cannot take an arrival"):
        machine.arrive(Completion(0, Failure(500, "no"), 2_000))
    assert machine.advance() == CHARGED
    assert machine.log == [CHARGE, CHARGED]


def test_j4_a_broken_machine_stays_broken() -> None:
    machine = broken()
    log, pending = list(machine.log), dict(machine.pending)
    for attempt in (lambda: machine.issue(CHARGE), lambda: machine.arrive(CHARGED), machine.end):
        with pytest.raises(RuntimeError, match="is broken"):
            attempt()
    assert machine.advance() is None
    assert not machine.is_next_new()
    assert machine.match_signal() is None
    machine.forget(0)
    assert (machine.phase, machine.log, machine.pending) == (Phase.BROKEN, log, pending)


def test_the_recorded_log_is_the_callers_own() -> None:
    recorded: Sequence[Entry] = [CHARGE]
    machine = Machine(recorded)
    machine.issue(CHARGE)
    machine.issue(STORE)
    assert recorded == [CHARGE]


def test_the_result_of_then_is_returned_on_replay() -> None:
    machine = replaying(READ)
    attempted = Command(Kind.GET, "total", site="other.py:1")
    assert machine.issue(attempted) is machine.log[0]
    assert machine.pending == {}


def test_a_live_command_is_returned_as_it_is() -> None:
    machine = live()
    assert machine.issue(READ) is READ
    assert machine.log == [READ]


@pytest.mark.parametrize(
    "kind",
    ["run", "get", "sleep", "call", "awakeable", "promise", "peek-promise", "attach", "signal"],
)
def test_a_command_that_is_answered_later_is_pending(kind: str) -> None:
    machine = live()
    machine.issue(Command(kind, "n"))
    assert list(machine.pending) == [0]


@pytest.mark.parametrize("kind", [Kind.GET, Kind.PEEK_PROMISE, Kind.RUN])
def test_a_command_with_its_answer_is_not_pending(kind: str) -> None:
    machine = live()
    machine.issue(Command(kind, "n", result=Success()))
    assert machine.pending == {}


@pytest.mark.parametrize(
    "kind",
    [
        "set",
        "clear",
        "clear-all",
        "state-keys",
        "send",
        "complete-awakeable",
        "complete-promise",
        "send-signal",
        "publish",
        "cancel",
        "time",
    ],
)
def test_a_command_without_an_answer_is_never_pending(kind: str) -> None:
    machine = live()
    machine.issue(Command(kind, "n"))
    assert machine.pending == {}


def test_a_pending_command_of_the_log_is_pending_after_replay() -> None:
    machine = replaying(CHARGE, CHARGE, CHARGED)
    machine.issue(CHARGE)
    machine.issue(CHARGE)
    machine.advance()
    assert machine.pending == {1: CHARGE}


def test_a_forgotten_command_is_not_pending() -> None:
    machine = live()
    machine.issue(Command(Kind.SLEEP, options={"wake_ms": 5}))
    machine.issue(CHARGE)
    machine.forget(0)
    assert machine.pending == {1: CHARGE}


def test_forgetting_twice_or_what_was_never_pending_does_nothing() -> None:
    machine = live()
    machine.issue(STORE)
    machine.forget(0)
    machine.forget(99)
    assert machine.pending == {}
    assert machine.phase is Phase.LIVE


ARRIVALS: list[Arrival] = [CHARGED, SIGNALLED, CANCELLED, CancelArrived(1, raised=True)]


@pytest.mark.parametrize("arrival", ARRIVALS)
def test_every_arrival_comes_back_on_replay_as_it_was(arrival: Arrival) -> None:
    machine = live()
    machine.issue(CHARGE)
    machine.arrive(arrival)
    again = Machine(machine.log)
    again.issue(CHARGE)
    assert again.advance() == arrival
