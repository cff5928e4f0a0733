"""What an examination of a data directory gives."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from streamstate.storage._history import HistoryRow


class Level(StrEnum):
    PROBLEM = "problem"  # something is wrong
    NOTICE = "notice"  # something that one may want to know


class Finding(msgspec.Struct, frozen=True):
    """Something that was found.

    Attributes:
        code: its name, for programs.
        text: what is wrong, and what follows from it.
        remedy: what to do.
        count: how often. examples: some of the cases.
    """

    level: Level
    code: str
    text: str
    remedy: str
    count: int = 1
    examples: tuple[str, ...] = ()


class Waiting(msgspec.Struct, frozen=True):
    """An invocation that is paused or waits for its next attempt."""

    id: str
    target: str
    status: str
    created_ms: int
    attempt: int
    reason: str


class Known(msgspec.Struct, frozen=True):
    """What an App consists of, to compare with. handlers: pairs of service and handler."""

    app: str
    subscriptions: frozenset[str]
    handlers: frozenset[tuple[str, str]]


class Examination(msgspec.Struct):
    """A data directory as it was found.

    Attributes:
        is_running: a process owns it now. owner: who does, or did last; None if it was never opened.
        format: None where it could not be told, like all that follows.
        application: the App that it belongs to; empty as long as none has said so.
        until_ms: the latest durable moment.
        database_bytes, log_bytes, free_bytes: of the files, and of the disk.
        rows: by table. statuses: invocations by status.
        waiting: the oldest that are paused or wait for their next attempt.
        is_full: every page and index was checked.
    """

    directory: str
    is_running: bool = False
    owner: str | None = None
    format: int | None = None
    directory_id: str | None = None
    epoch: int | None = None
    application: str = ""
    until_ms: int | None = None
    database_bytes: int = 0
    log_bytes: int = 0
    free_bytes: int = 0
    rows: dict[str, int] = {}
    statuses: dict[str, int] = {}
    waiting: list[Waiting] = []
    history: list[HistoryRow] = []
    is_full: bool = False
    findings: list[Finding] = []

    def of_level(self, level: Level) -> list[Finding]:
        return [finding for finding in self.findings if finding.level is level]
