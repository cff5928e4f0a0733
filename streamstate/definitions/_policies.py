"""Options that users set, frozen and grouped by concern. Durations are `timedelta`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff: attempt n is followed by a pause of initial * factor ** (n - 1), at most interval_max.

    Attributes:
        initial: the pause after the first attempt.
        factor: what the pause grows by.
        interval_max: the longest pause.
        attempts_max: how many attempts there are at all; None is no bound.
        duration_max: no new attempt after this long since the first; None is no bound.

    The defaults are those of Restate's invocation retry policy.
    """

    initial: timedelta = timedelta(milliseconds=500)
    factor: float = 2.0
    interval_max: timedelta = timedelta(seconds=60)
    attempts_max: int | None = 70
    duration_max: timedelta | None = None

    def pause_ms(self, attempt: int) -> int:
        """Milliseconds to wait after the attempt of this number (1 is the first)."""
        initial_ms = self.initial / timedelta(milliseconds=1)
        ceiling_ms = self.interval_max / timedelta(milliseconds=1)
        # Past this exponent every sensible factor has reached the ceiling, and a float would overflow.
        grown_ms = initial_ms * self.factor ** min(attempt - 1, 64)
        return int(min(grown_ms, ceiling_ms))

    def is_spent(self, attempt: int, elapsed_ms: int) -> bool:
        """True when the attempt of this number was the last one."""
        if self.attempts_max is not None and attempt >= self.attempts_max:
            return True
        return self.duration_max is not None and elapsed_ms >= self.duration_max / timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what has ended is kept: results of idempotent invocations and of workflows."""

    idempotency: timedelta = timedelta(hours=24)
    workflow: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a subscription begins the first time; later starts go on where the store says."""

    kind: str
    moment: datetime | None = None

    @classmethod
    def earliest(cls) -> Start:
        return cls("earliest")

    @classmethod
    def latest(cls) -> Start:
        return cls("latest")

    @classmethod
    def at(cls, moment: datetime) -> Start:
        """The first record at or after `moment`, which must carry its time zone."""
        return cls("at", moment)


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the subscription in front of the record, with a named error."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Drop the record and go on."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand the record to the handler."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Pause the invocation: its key waits, in order; others go on."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep the failure, visible, and go on with the key."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Write the record to a topic for dead letters and go on."""

    topic: str


@dataclass(frozen=True, slots=True)
class Policies:
    """What a subscription does with a record that is not an ordinary one."""

    on_null_key: Stop | Skip = field(default_factory=Stop)
    on_tombstone: Deliver | Skip = field(default_factory=Deliver)
    on_undecodable: Stop | Skip = field(default_factory=Stop)
    on_exhausted: Pause = field(default_factory=Pause)
    on_failure: Keep = field(default_factory=Keep)
    on_duplicate: Skip = field(default_factory=Skip)
