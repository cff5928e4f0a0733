"""After an unclean exit: does one of the invocations that ran then take the process down whenever it runs?

A crash in C code or a lack of memory leaves nobody to say who it was, so it is counted beforehand.

T1  What may have run when the process ended is a suspect, and runs only when a count of that is durable: what was
    runnable, what a timer has woken, and the records that are read again.
T2  All suspects of a first unclean exit run as ever. If the process ends again, those that were not cleared by then
    are tried first, one at a time, while nothing else runs; one that the process dies on again and again is paused.
T3  A suspect is cleared, durably, when it has ended, or waits without a step that runs.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Protocol

from streamstate.engine._clock import Clock
from streamstate.engine._commits import Commits
from streamstate.engine._keys import Live
from streamstate.engine._timers import Timers
from streamstate.journal import Failure
from streamstate.storage import Status, Store, TimerRow

_logger = logging.getLogger("streamstate.engine")

# Unclean exits while it ran, all but the first of them while nothing else did. Fewer would convict the innocent: a
# process that is killed from outside dies in the middle of somebody's trial too.
DEATHS_MAX = 5
TRIAL_MS_MAX = 2_000  # then the others go on: most crashes take no longer to come, and a step may take hours


class Host(Protocol):
    """What this needs of the engine."""

    store: Store
    clock: Clock
    commits: Commits
    timers: Timers
    live: dict[str, Live]
    work: deque[Live]

    def enqueue(self, inv: Live) -> None: ...


class Trials:
    """See the module.

    Attributes:
        is_wary: the last exit was not clean.
        suspects: ids of invocations that may not run as they like.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self.is_wary = not host.store.header.was_clean
        self.suspects: set[str] = set()
        self._started_ms = -1
        self._deaths = host.store.trials() if self.is_wary else {}
        self._counted: set[str] = set()
        self._on_trial: str | None = None
        self._parked: list[Live] = []

    def begin(self, now_ms: int) -> None:
        """Everything that was runnable is queued: those that were suspects before come first."""
        self._started_ms = now_ms
        work = self._host.work
        first = sorted(work, key=lambda inv: inv.id not in self._deaths)
        work.clear()
        work.extend(first)

    def suspect(self, invocation: str, moment_ms: int = -1) -> None:
        """It may have run when the process ended: at this moment, if that was before this start."""
        if self.is_wary and moment_ms <= self._started_ms:
            self.suspects.add(invocation)

    def may_run(self, inv: Live) -> Failure | bool:
        """True: go on. False: it is queued again later. A failure: it must not run, and is to be paused."""
        if self._on_trial is not None:
            if inv.id == self._on_trial and inv.id in self._counted:
                return True
            self._parked.append(inv)
            return False
        if inv.id not in self.suspects or inv.id in self._counted:
            return True
        deaths = self._deaths.get(inv.id, 0)
        if deaths >= DEATHS_MAX:
            return self._convict(inv)
        if deaths:
            self._on_trial = inv.id
        commits = self._host.commits
        commits.batch.trials[inv.id] = deaths + 1
        commits.touch()
        commits.releases.counted.append(inv)
        return False

    def counted(self, inv: Live) -> None:
        """The count is durable: it may run."""
        self._counted.add(inv.id)
        if inv.id == self._on_trial:
            self._host.timers.add(TimerRow(self._host.clock.now_ms() + TRIAL_MS_MAX, inv.id, "trial", 0))
        self._host.enqueue(inv)

    def turned(self, inv: Live) -> None:
        """A turn of it is over: it is cleared, unless it goes on outside of the handler (T3)."""
        if inv.id in self._counted and (inv.id not in self._host.live or inv.row.status is not Status.RUNNING):
            self._clear(inv.id, None)

    def ended(self, invocation: str) -> None:
        """It has ended, perhaps without a turn: killed, or cancelled before it began."""
        if invocation in self.suspects:
            self._clear(invocation, None)

    def expire(self, invocation: str) -> None:
        """Its trial has taken too long: the others go on, and it with them."""
        if invocation == self._on_trial:
            self._clear(invocation, 1)

    def cleared(self, invocation: str) -> None:
        """That is durable: on with the next one, or with everything."""
        self.suspects.discard(invocation)
        self._counted.discard(invocation)
        if self._on_trial == invocation:
            self._on_trial = None
            parked, self._parked = self._parked, []
            for inv in parked:
                self._host.enqueue(inv)

    def _clear(self, invocation: str, deaths: int | None) -> None:
        commits = self._host.commits
        commits.batch.trials[invocation] = deaths
        commits.touch()
        commits.releases.cleared.append(invocation)

    def _convict(self, inv: Live) -> Failure:
        _logger.error("%s took the process down; it is paused, and everything else goes on", inv.label)
        self.suspects.discard(inv.id)
        self._host.commits.batch.trials[inv.id] = None
        return Failure(
            500,
            f"the process ended without a word {DEATHS_MAX} times while this ran, mostly while nothing else did "
            "(a crash in C code, or out of memory?). Correct it and resume it, or kill it",
        )
