"""Every exception of streamstate, in one tree, split by whose turn it is to act.

::

    StreamstateError
    ├── DefinitionError            fix the program: found when declared or when the App is built
    ├── UsageError                 fix the call: a wrong argument to a verb of the context or of a client
    ├── TerminalError              the business says no: ends the invocation, is never retried
    │   ├── CancelledError         409: the invocation was cancelled
    │   ├── InputError             400: the payload does not fit the handler
    │   ├── NotFoundError          404: no such service, handler or invocation
    │   └── CallCycleError         409: the call would wait for a key that its own callers hold
    ├── RetryableError             try again, perhaps not before `retry_after`
    ├── HandlerFault               the handler broke a rule of durable execution: the invocation is paused
    │   ├── JournalMismatchError   the code does not fit the journal that it replays
    │   ├── ForeignAwaitError      the handler awaited something that is not durable
    │   └── RunawayTurnError       the handler issued commands without ever blocking
    ├── InvocationPausedError      the awaited invocation is paused; it goes on after `resume`
    ├── SerdeError                 bytes that are not what the type says, or a value that has no bytes
    ├── SourceError                a source of events cannot be read
    │   └── SubscriptionStoppedError   a record that its policy does not let pass
    ├── SinkError                  a message that Kafka did not take
    ├── StorageError               the data directory cannot be used
    │   ├── StorageInUseError      another process owns it
    │   ├── StorageFormatError     written by another version, or not by streamstate at all
    │   ├── StorageCorruptError    it does not read back as it was written
    │   └── CommitFailedError      a commit failed: the engine has stopped
    └── Unavailable                not now: the engine is starting, draining or has stopped

`RetryableError` and every exception outside this tree make the engine retry the invocation by its policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

__all__ = [
    "CallCycleError",
    "CancelledError",
    "CommitFailedError",
    "DefinitionError",
    "ForeignAwaitError",
    "HandlerFault",
    "InputError",
    "InvocationPausedError",
    "JournalMismatchError",
    "NotFoundError",
    "RetryableError",
    "RunawayTurnError",
    "SerdeError",
    "SinkError",
    "SourceError",
    "StorageCorruptError",
    "StorageError",
    "StorageFormatError",
    "StorageInUseError",
    "StreamstateError",
    "SubscriptionStoppedError",
    "TerminalError",
    "Unavailable",
    "UsageError",
]


class StreamstateError(Exception):
    """The root of the tree."""


class DefinitionError(StreamstateError):
    """A mistake in the program's definitions, with the file and line where it was made."""


class UsageError(StreamstateError):
    """A wrong argument to a verb of the context or of a client."""


class TerminalError(StreamstateError):
    """Ends the invocation with a failure that is never retried.

    Args:
        message: what the caller is told.
        code: an HTTP status; Restate's default for a terminal failure is 500.
        metadata: pairs of strings that travel with the failure.
    """

    default_code = 500

    def __init__(
        self, message: str = "", *, code: int | None = None, metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = self.default_code if code is None else code
        self.metadata: dict[str, str] = dict(metadata or {})


class CancelledError(TerminalError):
    """The invocation was cancelled: arrives at the handler's next await, once."""

    default_code = 409


class InputError(TerminalError):
    """The payload does not fit the handler's type."""

    default_code = 400


class NotFoundError(TerminalError):
    """No such service, handler or invocation."""

    default_code = 404


class CallCycleError(TerminalError):
    """The call would wait for ever for a key that its own callers hold; the message names the cycle."""

    default_code = 409


class RetryableError(StreamstateError):
    """The attempt failed; try again by the policy, but not before `retry_after` has passed.

    Args:
        message: kept as the invocation's last failure.
        retry_after: the earliest moment of the next attempt, from now.
    """

    def __init__(self, message: str = "", *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class HandlerFault(StreamstateError):
    """The handler broke a rule of durable execution; a retry would only repeat it, so the invocation is paused."""


class JournalMismatchError(HandlerFault):
    """The code does not issue the commands that its journal recorded."""


class ForeignAwaitError(HandlerFault):
    """The handler awaited something that no durable verb completes."""


class RunawayTurnError(HandlerFault):
    """The handler issued commands or spun without ever blocking."""


class InvocationPausedError(StreamstateError):
    """The awaited invocation is paused; the message holds its last failure and how to go on."""


class SerdeError(StreamstateError):
    """Bytes that are not what the type says, or a value that has no bytes."""


class SourceError(StreamstateError):
    """A source of events cannot be read."""


class SubscriptionStoppedError(SourceError):
    """A subscription met a record that its policy does not let pass, and stopped in front of it."""


class SinkError(StreamstateError):
    """Kafka did not take a message.

    Args:
        message: what, which, and the next step.
        acknowledged: how many messages of the batch, from its start, Kafka did take.
    """

    def __init__(self, message: str, *, acknowledged: int = 0) -> None:
        super().__init__(message)
        self.acknowledged = acknowledged


class StorageError(StreamstateError):
    """The data directory cannot be used."""


class StorageInUseError(StorageError):
    """Another process owns the data directory."""


class StorageFormatError(StorageError):
    """The data directory was written by another version, or not by streamstate at all."""


class StorageCorruptError(StorageError):
    """The data directory does not read back as it was written."""


class CommitFailedError(StorageError):
    """A commit failed; the engine has stopped and must be started again."""


class Unavailable(StreamstateError):
    """Not now: the engine is starting, draining or has stopped."""
