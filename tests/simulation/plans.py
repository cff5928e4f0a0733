"""What a simulation does, as data that can be printed and shrunk: scripts of handlers, inputs, faults.

A script has a tag that no other has; a script inside a script has the tag of the outer one, a dot, and its place. So a
tag tells what was done, by whom, in the state, in results, and in messages.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Add(msgspec.Struct, frozen=True, tag="add"):
    """Read a counter, write it back with `n` more."""

    at: str
    name: str
    n: int


class Run(msgspec.Struct, frozen=True, tag="run"):
    """A step: it takes `ms`, fails `fails` times first, and ends as `how` says (ok, terminal).

    `attempts` is its own policy, 0 none. `joined` False leaves it unawaited.
    """

    at: str
    ms: int = 0
    fails: int = 0
    how: str = "ok"
    in_thread: bool = False
    attempts: int = 0
    joined: bool = True


class Sleep(msgspec.Struct, frozen=True, tag="sleep"):
    at: str
    ms: int
    plain: bool = False


class Call(msgspec.Struct, frozen=True, tag="call"):
    at: str
    to: str
    key: str
    script: Script
    idem: str | None = None


class Send(msgspec.Struct, frozen=True, tag="send"):
    """`then`: nothing, attach (for 2 s at most), or cancel after 50 ms."""

    at: str
    to: str
    key: str
    script: Script
    delay_ms: int | None = None
    idem: str | None = None
    then: str = ""


class Publish(msgspec.Struct, frozen=True, tag="publish"):
    at: str
    key: str


class Awake(msgspec.Struct, frozen=True, tag="awake"):
    """An awakeable, completed after `ms` by the outside world, or by another handler."""

    at: str
    ms: int
    outside: bool = True


class Signal(msgspec.Struct, frozen=True, tag="signal"):
    """A signal that another handler sends after `ms`."""

    at: str
    ms: int


class Promise(msgspec.Struct, frozen=True, tag="promise"):
    """Of a workflow; `how`: await, resolve, reject, peek."""

    at: str
    name: str
    how: str


class Look(msgspec.Struct, frozen=True, tag="look"):
    """Read the time, a random number and the names of the state."""

    at: str


class Together(msgspec.Struct, frozen=True, tag="together"):
    """Branches at the same time; `how`: gather, group (TaskGroup), race (asyncio.wait for the first)."""

    at: str
    how: str
    branches: tuple[tuple[Op, ...], ...]


class Timeout(msgspec.Struct, frozen=True, tag="timeout"):
    at: str
    ms: int
    body: tuple[Op, ...]


class Try(msgspec.Struct, frozen=True, tag="try"):
    """Catch terminal errors."""

    at: str
    body: tuple[Op, ...]


class Fail(msgspec.Struct, frozen=True, tag="fail"):
    """Raise an error that is retried, the first `times` times."""

    at: str
    times: int


class Terminal(msgspec.Struct, frozen=True, tag="terminal"):
    at: str


Op: TypeAlias = (
    Add
    | Run
    | Sleep
    | Call
    | Send
    | Publish
    | Awake
    | Signal
    | Promise
    | Look
    | Together
    | Timeout
    | Try
    | Fail
    | Terminal
)


class Script(msgspec.Struct, frozen=True):
    """What one invocation does."""

    tag: str
    ops: tuple[Op, ...] = ()


class Input(msgspec.Struct, frozen=True):
    """One input from outside.

    Attributes:
        by: call and send are a client's, record is a topic's.
        to: the handler, by its name in `handlers.TARGETS`.
    """

    at_ms: int
    by: str
    to: str
    key: str
    script: Script
    idem: str | None = None
    delay_ms: int | None = None


class Fault(msgspec.Struct, frozen=True):
    """Something that goes wrong, or that a person does.

    Attributes:
        kind: crash, stop (in good order), crash_before, crash_after and commit_error (of commit number `n` from
            `at_ms` on), jump (the wall clock, by `n` ms), sink_down and slow_disk (for `n` ms), rewind (the source, by
            `n` records), cancel, kill and resume (the `n`-th invocation there is).
        down_ms: how long the process is away.
    """

    at_ms: int
    kind: str
    n: int = 0
    down_ms: int = 0


class Limits(msgspec.Struct, frozen=True):
    """Options and bounds of the engine in this run."""

    always_replay: bool = False
    writes_in_thread: bool = True
    keys: int = 200_000
    live: int = 10_000
    queue: int = 1_000
    page: int = 1_000
    outbox: int = 5_000
    chunk: int = 500
    work: int = 512
    cut: int = 1_000
    in_flight: int = 10_000


class Plan(msgspec.Struct, frozen=True):
    """One run."""

    seed: int
    inputs: tuple[Input, ...]
    faults: tuple[Fault, ...]
    limits: Limits = Limits()
    # How long a commit takes, and a message.
    commit_ms: float = 2.0
    sink_ms: float = 4.0


def encode(plan: Plan) -> bytes:
    return msgspec.json.format(msgspec.json.encode(plan), indent=1)


def decode(text: bytes) -> Plan:
    return msgspec.json.decode(text, type=Plan)


def scripts_in(ops: tuple[Op, ...]) -> list[tuple[str, str, str, Script]]:
    """Scripts that these operations start: (call or send, target, key, script)."""
    found: list[tuple[str, str, str, Script]] = []
    for op in ops:
        match op:
            case Call() | Send():
                found.append(("call" if isinstance(op, Call) else "send", op.to, op.key, op.script))
            case Together():
                for branch in op.branches:
                    found.extend(scripts_in(branch))
            case Timeout() | Try():
                found.extend(scripts_in(op.body))
            case _:
                pass
    return found


def all_scripts(plan: Plan) -> list[tuple[str, str, str, Script]]:
    """Every script of the plan: (how it is started, target, key, script)."""
    waiting = [(each.by, each.to, each.key, each.script) for each in plan.inputs]
    found: list[tuple[str, str, str, Script]] = []
    while waiting:
        each = waiting.pop()
        found.append(each)
        waiting.extend(scripts_in(each[3].ops))
    return found
