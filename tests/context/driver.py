"""Runs a handler without an engine: live, with outcomes by a script; then again from its journal.

Time is a number here. A step takes `durations[name]` milliseconds, a timer until it is due, and what nobody scripts
never comes. `check` is the invariant of the package: a replay issues the same commands, shows the handler the same
things at the same times, and ends the same.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import msgspec
import pytest

from streamstate.context import (
    Action,
    Blocked,
    Ended,
    Failed,
    HandlerLoop,
    ObjectContext,
    Session,
    Setting,
    Turn,
    WorkflowContext,
    failure_of,
    running,
)
from streamstate.definitions import HandlerSpec, ServiceKind, VirtualObject, Workflow
from streamstate.errors import NotFoundError
from streamstate.journal import (
    Arrival,
    CancelArrived,
    Command,
    Completion,
    Entry,
    Failure,
    Kind,
    Outcome,
    SignalArrived,
    Success,
    child_identity,
)

STARTED_MS = 1_700_000_000_000
ARRIVALS_MAX = 5_000  # a program of a test that needs more hangs

Tell: TypeAlias = Callable[[object], None]
Program: TypeAlias = Callable[[Any, Tell], Coroutine[Any, Any, Any]]
TurnOutcome: TypeAlias = Ended | Failed | Blocked


@dataclass(frozen=True)
class Script:
    """What comes from outside, and when; milliseconds since the start.

    Attributes:
        durations: of a step or call, by name; 1 where nothing is said. None: it never ends.
        answers: the outcome of a command that is not a step, by its name; for commands without a name, by their kind.
        signals, cancels: when what arrives.
        values: the state at the start.
    """

    durations: Mapping[str, int | None] = field(default_factory=dict)
    answers: Mapping[str, Outcome] = field(default_factory=dict)
    signals: Sequence[tuple[int, str, object]] = ()
    cancels: Sequence[int] = ()
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass
class Run:
    """A session and what was seen of it; `told` holds what the program told, with the loop's time."""

    session: Session
    told: list[tuple[float, object]]
    turns: list[Turn] = field(default_factory=list)

    @property
    def log(self) -> list[Entry]:
        return list(self.session.machine.log)

    @property
    def outcome(self) -> TurnOutcome:
        return self.session.outcome

    @property
    def commands(self) -> list[Command]:
        return [entry for entry in self.log if isinstance(entry, Command)]

    @property
    def issued(self) -> list[str]:
        """The commands as words."""
        return [f"{command.kind} {command.name}".strip() for command in self.commands]

    @property
    def words(self) -> list[object]:
        return [word for _, word in self.told]

    @property
    def value(self) -> Any:
        """What the handler returned."""
        assert isinstance(self.outcome, Ended), self.outcome
        assert isinstance(self.outcome.outcome, Success), self.outcome
        return None if self.outcome.outcome.value is None else msgspec.json.decode(self.outcome.outcome.value)

    @property
    def failure(self) -> Failure:
        """The terminal failure that it ended with."""
        assert isinstance(self.outcome, Ended), self.outcome
        assert isinstance(self.outcome.outcome, Failure), self.outcome
        return self.outcome.outcome

    @property
    def conclusion(self) -> str:
        """How it ended, in words that hold no line of code."""
        outcome = self.outcome
        if isinstance(outcome, Ended):
            return repr(_without_detail(outcome.outcome))
        return f"failed: {outcome.error!r}" if isinstance(outcome, Failed) else "blocked"

    @property
    def error(self) -> BaseException:
        """The error of its attempt, which did not end it."""
        assert isinstance(self.outcome, Failed), self.outcome
        return self.outcome.error

    @property
    def fault(self) -> BaseException:
        assert isinstance(self.outcome, Failed), self.outcome
        assert self.outcome.is_fault, self.outcome
        return self.outcome.error

    def close(self) -> None:
        with running(self.session.loop):
            self.session.close()


def spec_of(program: Program, told: list[tuple[float, object]], kind: ServiceKind = ServiceKind.OBJECT) -> HandlerSpec:
    """A handler around the program."""

    def tell(what: object) -> None:
        told.append((asyncio.get_running_loop().time(), what))

    if kind is ServiceKind.WORKFLOW:
        signup = Workflow("SignUp")

        @signup.main
        async def main(ctx: WorkflowContext) -> Any:
            """Its function is the program itself, below."""

        return replace(main.spec, function=lambda ctx: program(ctx, tell))

    cart = VirtualObject("Cart")

    @cart.handler
    async def handler(ctx: ObjectContext) -> Any:
        """As above."""

    return replace(handler.spec, function=lambda ctx: program(ctx, tell))


def find_nothing(service: str, handler: str) -> HandlerSpec:
    raise NotFoundError(f"no {service}.{handler}")


def new_session(
    spec: HandlerSpec,
    recorded: Sequence[Entry] = (),
    values: Mapping[str, bytes] | None = None,
    loop: HandlerLoop | None = None,
    identity: str = child_identity("test", 0),  # a text
) -> Session:
    setting = Setting.of(spec, lambda _session: identity, lambda: STARTED_MS, find_nothing)
    return Session(setting, "k1", STARTED_MS, values or {}, loop or HandlerLoop(), recorded)


def start(program: Program, recorded: Sequence[Entry] = (), values: Mapping[str, bytes] | None = None) -> Run:
    """The first turn; with a journal, all that is in it."""
    told: list[tuple[float, object]] = []
    kind = getattr(program, "service_kind", ServiceKind.OBJECT)
    run = Run(new_session(spec_of(program, told, kind), recorded, values), told)
    context = WorkflowContext if kind is ServiceKind.WORKFLOW else ObjectContext
    with running(run.session.loop):
        run.session.start(run.session.setting.spec.function(context(run.session)))
    return run


def deliver(run: Run, *arrivals: Arrival) -> Run:
    for arrival in arrivals:
        with running(run.session.loop):
            run.session.arrive(arrival)
    return run


def perform(action: Action) -> Outcome | BaseException:
    """Run a step's action; it must not wait for anything."""
    try:
        value = action.function(*action.args, **action.kwargs)
        if isinstance(value, Coroutine):
            try:
                value.send(None)
            except StopIteration as stop:
                value = stop.value
            else:
                raise AssertionError(f"the action of {action.step.name} waits for something")
        return Success(action.encode(value))
    except Exception as error:  # noqa: BLE001  # the script's outcome of the step
        return failure_of(error) or error


def run_live(program: Program, script: Script | None = None) -> Run:
    """Run to the end, or until nothing more comes."""
    script = script or Script()
    values = {name: msgspec.json.encode(value) for name, value in script.values.items()}
    run = start(program, values=values)
    _Outside(run, script, values).serve()
    return run


class _Outside:
    """Answers a session by a script, in the order of time and then of the commands."""

    def __init__(self, run: Run, script: Script, values: dict[str, bytes]) -> None:
        self._run = run
        self._script = script
        self._values = values
        self._now_ms = 0
        self._first_seen: dict[int, int] = {}
        self._others: list[tuple[int, Callable[[int], Arrival]]] = sorted(
            [
                *((at, _signal(name, value)) for at, name, value in script.signals),
                *((at, CancelArrived) for at in script.cancels),
            ],
            key=lambda other: other[0],
        )

    def serve(self) -> None:
        for _ in range(ARRIVALS_MAX):
            self._commit()
            if not isinstance(self._run.outcome, Blocked):
                return
            arrival = self._next()
            if arrival is None:
                return
            deliver(self._run, arrival)
        raise AssertionError(f"more than {ARRIVALS_MAX} arrivals")

    def _commit(self) -> None:
        if isinstance(self._run.outcome, Failed):
            return
        turn = self._run.session.take_turn()
        self._run.turns.append(turn)
        for name, value in (turn.changes or {}).items():
            if value is None:
                self._values.pop(name, None)
            else:
                self._values[name] = value

    def _next(self) -> Arrival | None:
        due = []
        for index, command in self._run.session.machine.pending.items():
            seen_ms = self._first_seen.setdefault(index, self._now_ms)
            at_ms = self._due(command, seen_ms)
            if at_ms is not None:
                due.append((at_ms, index, command))
        first = min(due, key=lambda each: each[:2], default=None)
        if self._others and (first is None or self._others[0][0] <= first[0]):
            at_ms, make = self._others.pop(0)
            self._now_ms = max(self._now_ms, at_ms)
            return make(STARTED_MS + self._now_ms)
        if first is None:
            return None
        self._now_ms = max(self._now_ms, first[0])
        return Completion(first[1], self._outcome(first[1], first[2]), STARTED_MS + self._now_ms)

    def _due(self, command: Command, seen_ms: int) -> int | None:
        if command.kind == Kind.SLEEP:
            wake_ms = (command.options or {})["wake_ms"]
            assert isinstance(wake_ms, int)
            return wake_ms - STARTED_MS
        if command.kind not in (Kind.RUN, Kind.GET) and (command.name or command.kind) not in self._script.answers:
            return None
        duration = self._script.durations.get(command.name, 1)
        return None if duration is None else seen_ms + duration

    def _outcome(self, index: int, command: Command) -> Outcome:
        if command.kind == Kind.SLEEP:
            return Success(None)
        if command.kind == Kind.GET:
            return Success(self._values.get(command.name))
        if command.kind != Kind.RUN:
            return self._script.answers[command.name or command.kind]
        assert self._run.session.actions is not None
        result = perform(self._run.session.actions[index])
        assert not isinstance(result, BaseException), result
        return result


def _signal(name: str, value: object) -> Callable[[int], Arrival]:
    return lambda at_ms: SignalArrived(name, Success(msgspec.json.encode(value)), at_ms)


def replay(program: Program, recorded: Sequence[Entry], values: Mapping[str, bytes] | None = None) -> Run:
    """Run again from a journal, in a session of its own."""
    return start(program, recorded, values)


def same_outcome(one: TurnOutcome, other: TurnOutcome) -> bool:
    if isinstance(one, Failed) and isinstance(other, Failed):
        return type(one.error) is type(other.error) and one.is_fault == other.is_fault
    if isinstance(one, Ended) and isinstance(other, Ended):
        # A failure's detail is a stack, with the frames of the driver in it.
        return _without_detail(one.outcome) == _without_detail(other.outcome)
    return one == other


def _without_detail(outcome: Outcome) -> Outcome:
    return msgspec.structs.replace(outcome, detail="") if isinstance(outcome, Failure) else outcome


def check(program: Program, script: Script | None = None) -> Run:
    """Run live, then replay the whole journal and each of its beginnings; give the live run."""
    live = run_live(program, script)
    again = replay(program, live.log)
    assert again.log == live.log
    assert again.told == live.told
    assert same_outcome(again.outcome, live.outcome), (again.outcome, live.outcome)
    turn = again.session.take_turn()
    assert (turn.changes, turn.effects) == (None, None)
    for length, entry in enumerate(live.log):
        if not isinstance(entry, Command) and length:
            partial = replay(program, live.log[:length])
            assert isinstance(partial.outcome, Blocked), (length, partial.outcome)
            partial.close()
    if isinstance(live.outcome, Blocked):
        again.close()
    return live


@contextmanager
def nothing_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No warning, no unraisable error, no task that is destroyed while it is pending."""
    with warnings.catch_warnings(), caplog.at_level(logging.INFO):
        warnings.simplefilter("error")
        yield
        gc.collect()
    assert [record.getMessage() for record in caplog.records] == []
