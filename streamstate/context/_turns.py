"""What a session is given, and what its turns come to. Values only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Self, TypeAlias

import msgspec

from streamstate.definitions import HandlerSpec, Step
from streamstate.journal import Command, Outcome, Success

Decode: TypeAlias = Callable[[bytes | None], Any]


class Setting(NamedTuple):
    """What all invocations of a handler share.

    Attributes:
        identify: gives the id of a session's invocation; asked late, since most events never need it.
        clock: the engine's clock, milliseconds.
        find: the spec of a handler by name; raises NotFoundError.
        is_silent: the handler's result None has no bytes.
    """

    spec: HandlerSpec
    identify: Callable[[Any], str]
    clock: Callable[[], int]
    find: Callable[[str, str], HandlerSpec]
    is_silent: bool

    @classmethod
    def of(
        cls,
        spec: HandlerSpec,
        identify: Callable[[Any], str],
        clock: Callable[[], int],
        find: Callable[[str, str], HandlerSpec],
    ) -> Self:
        return cls(spec, identify, clock, find, spec.output.content_type is None)


class Action(NamedTuple):
    """What a step runs, outside the handler's loop."""

    step: Step
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    encode: Callable[[Any], bytes]


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The handler has ended and everything it started was joined."""

    outcome: Outcome


class Failed(msgspec.Struct, frozen=True):
    """The attempt failed; a fault is not to be retried."""

    error: BaseException
    is_fault: bool


class Blocked(msgspec.Struct, frozen=True, gc=False):
    """The handler waits for something to arrive."""


TurnOutcome: TypeAlias = Ended | Failed | Blocked

BLOCKED = Blocked()
ENDED_EMPTY = Ended(Success(None))


class Turn(NamedTuple):
    """What a turn decided.

    Attributes:
        changes: state by name; None clears.
        effects: new commands with their index, in order; reads are not among them.
        cancelled_timers: indexes of sleep commands that nobody waits for any more.
    """

    changes: dict[str, bytes | None] | None
    effects: list[tuple[int, Command]] | None
    cancelled_timers: list[int] | None
