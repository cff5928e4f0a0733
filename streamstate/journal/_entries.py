"""What a journal is made of. Values only; the order of entries is the order in which they happened."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

Option: TypeAlias = str | int | bytes | dict[str, str]


class Success(msgspec.Struct, frozen=True, array_like=True, tag="ok"):
    """A result, as its serde wrote it; None is the absence of a value."""

    value: bytes | None = None


class Failure(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """A terminal failure; detail holds what helps a person, such as the exception and its line."""

    code: int
    message: str
    metadata: dict[str, str] = {}
    detail: str = ""


Outcome: TypeAlias = Success | Failure


class Kind:
    """The names of the commands, as the journal, the SQL views and the messages show them."""

    RUN: Final = "run"
    GET: Final = "get"
    SET: Final = "set"
    CLEAR: Final = "clear"
    CLEAR_ALL: Final = "clear-all"
    STATE_KEYS: Final = "state-keys"
    SLEEP: Final = "sleep"
    CALL: Final = "call"
    SEND: Final = "send"
    AWAKEABLE: Final = "awakeable"
    COMPLETE_AWAKEABLE: Final = "complete-awakeable"
    PROMISE: Final = "promise"
    PEEK_PROMISE: Final = "peek-promise"
    COMPLETE_PROMISE: Final = "complete-promise"
    SIGNAL: Final = "signal"
    SEND_SIGNAL: Final = "send-signal"
    PUBLISH: Final = "publish"
    ATTACH: Final = "attach"
    CANCEL: Final = "cancel"
    TIME: Final = "time"


class Command(msgspec.Struct, frozen=True, array_like=True, tag="command"):
    """One thing the handler asked for.

    Attributes:
        kind: one of `Kind`.
        name: what it is about: a step, a state key, a target `Service/handler`, a promise, a topic.
        key: the target's object key, where there is one.
        body: the payload.
        options: what else decides the effect (a delay, an idempotency key, headers).
        result: the answer, where it was known at once; a replay returns it. Not compared.
        site: `file:line` that issued it. Not compared.
    """

    kind: str
    name: str = ""
    key: str | None = None
    body: bytes | None = None
    options: dict[str, Option] | None = None
    result: Outcome | None = None
    site: str = ""


class Completion(msgspec.Struct, frozen=True, array_like=True, tag="completion"):
    """The command of this index got its outcome, at this moment of the engine's clock."""

    index: int
    outcome: Outcome
    at_ms: int


class SignalArrived(msgspec.Struct, frozen=True, array_like=True, tag="signal"):
    """A named signal arrived; it may be older than the command that waits for it."""

    name: str
    outcome: Outcome
    at_ms: int


class CancelArrived(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """The invocation was cancelled.

    `raised` is True when a cancelled child's failure has already told the handler, so that it hears of it once.
    """

    at_ms: int
    raised: bool = False


Arrival: TypeAlias = Completion | SignalArrived | CancelArrived
Entry: TypeAlias = Command | Completion | SignalArrived | CancelArrived
