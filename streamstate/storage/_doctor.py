"""Examines a data directory, whether a process owns it or not, and changes nothing of it.

All rows are read in one transaction, so that a running application cannot make them seem to contradict each other.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec

from streamstate.errors import StorageError
from streamstate.storage._admission import older_copy
from streamstate.storage._doctor_journals import flaws
from streamstate.storage._doctor_rules import RULES
from streamstate.storage._doctor_values import Examination, Finding, Known, Level, Waiting
from streamstate.storage._glance import DATABASE_FILE, ask, check_kind, glance
from streamstate.storage._guard import check_file_sum, check_log_is_there, read_guard
from streamstate.storage._history import history_of
from streamstate.storage._lock import LOCK_FILE, owner_of
from streamstate.storage._restore import unfinished_restore
from streamstate.storage._schema import APPLICATION_ID, FORMAT_VERSION, TABLE_NAMES
from streamstate.storage._sqlite_errors import storage_error
from streamstate.storage._upgrade import present_schema, schema_of

_EXAMPLES_MAX = 3
_WAITING_MAX = 5
_INTEGRITY_LINES_MAX = 20
_INBOX_LONG = 10_000  # inputs waiting for one key
_CLOCK_AHEAD_MS_MAX = 60_000
_FREE_BYTES_MIN = 256 * 1024 * 1024  # less than this, and the next burst of commits may fill the disk

_DAMAGED = "stop the application, take a copy of the whole directory, and restore the latest backup"
_CONTRADICTION = (
    "take a backup, and report it with this output; cancel or kill the invocations that are named, or restore a backup"
)
_FLAWS = {
    "undecodable": "a row holds what streamstate never wrote",
    "position-behind": "a record has an invocation and its source position is not behind it: it will come again",
    "undelivered-command": "a journal's arrivals that were not delivered include a command: it cannot be replayed",
    "result-lost": "an invocation waits for a result that nothing will bring",
    "never-woken": "an invocation is suspended and nothing will wake it",
}


def examine(directory: Path, *, full: bool = False, known: Known | None = None) -> Examination:
    """Look at a data directory and say what is wrong with it.

    Args:
        directory: the data directory.
        full: check every page, and every index against its table; reads the whole file more than once.
        known: the App to compare it with.

    Raises:
        StorageError: it is no data directory, or is not readable at all.
    """
    database = directory / DATABASE_FILE
    if not directory.is_dir() or not (database.exists() or (directory / LOCK_FILE).exists()):
        raise StorageError(f"{directory} is no data directory: it has neither {DATABASE_FILE} nor {LOCK_FILE}")
    found = Examination(str(directory), is_full=full, free_bytes=shutil.disk_usage(directory).free)
    found.is_running, holder = owner_of(directory)
    if holder is not None and holder.pid:
        found.owner = f"process {holder.pid} on host {holder.host!r} (owner epoch {holder.epoch})"
    found.findings = list(_of_files(found, directory, 0 if holder is None else holder.epoch))
    if not found.database_bytes:
        return found
    try:
        with glance(database) as connection:
            found.format = check_kind(connection, database, APPLICATION_ID)
            found.findings += _of_database(found, connection, database, 0 if holder is None else holder.epoch)
            if known is not None:
                found.findings += _of_program(found, connection, known)
    except StorageError as error:
        found.findings.append(Finding(Level.PROBLEM, "unreadable", str(error), _DAMAGED))
    return found


def _of_files(found: Examination, directory: Path, lock_epoch: int) -> Iterator[Finding]:
    database, log = directory / DATABASE_FILE, directory / f"{DATABASE_FILE}-wal"
    found.database_bytes = database.stat().st_size if database.exists() else 0
    found.log_bytes = log.stat().st_size if log.exists() else 0
    if unfinished_restore(directory).exists():
        yield Finding(
            Level.PROBLEM,
            "restore-unfinished",
            "a restore into this directory was cut short, or is under way",
            f"wait for it, run `streamstate restore` again, or remove {unfinished_restore(directory).name}",
        )
    if not found.database_bytes and lock_epoch:
        yield Finding(
            Level.PROBLEM,
            "database-gone",
            f"there is no database, but there was one under owner epoch {lock_epoch}",
            "restore a backup into this directory, or remove the directory to start from nothing",
        )
    elif not found.database_bytes:
        yield Finding(Level.NOTICE, "empty", "there is nothing in it yet", "start an application on it")
    if found.log_bytes and not found.is_running:
        yield Finding(
            Level.NOTICE,
            "not-closed",
            f"no process owns the directory and its log holds {found.log_bytes:,} bytes: the last owner was killed",
            "nothing: the next start goes on from the log; never remove it",
        )
    for kept in sorted(directory.glob("before-format-*.backup")):
        yield Finding(
            Level.NOTICE,
            "kept-from-upgrade",
            f"{kept.name} is a backup from before an upgrade, {kept.stat().st_size:,} bytes",
            "remove it when you will not go back",
        )
    if not found.is_running:
        guard = read_guard(directory)
        for check in (check_file_sum, check_log_is_there):
            try:
                check(database, guard)
            except StorageError as error:
                yield Finding(Level.PROBLEM, "not-of-one-moment", str(error), _DAMAGED)
    yield from _of_disk(found)


def _of_disk(found: Examination) -> Iterator[Finding]:
    if found.free_bytes < _FREE_BYTES_MIN:
        yield Finding(
            Level.PROBLEM,
            "disk-full",
            f"the disk has {found.free_bytes:,} bytes free: a commit may fail soon, and that stops the engine",
            "free some space",
        )
    elif found.free_bytes < found.database_bytes + found.log_bytes:
        yield Finding(
            Level.NOTICE,
            "disk-short",
            f"the disk has {found.free_bytes:,} bytes free, less than the directory: a backup beside it has no room",
            "free some space, or take backups to another disk",
        )


def _of_database(found: Examination, connection: apsw.Connection, path: Path, lock_epoch: int) -> Iterator[Finding]:
    """What the rows say, and what is wrong with them."""
    yield from _guarded("integrity", path, _of_integrity(connection, found.is_full))
    tables = {row[0] for row in ask(connection, "SELECT name FROM sqlite_schema WHERE type = 'table'")}
    missing = sorted(TABLE_NAMES - tables)
    if found.format != FORMAT_VERSION:
        yield Finding(
            Level.NOTICE,
            "older-format",
            f"the directory is of format {found.format}, this version of streamstate writes {FORMAT_VERSION}; "
            "only its pages were checked",
            "start the application with this version: it takes a backup, and upgrades the directory",
        )
        return
    if missing:
        yield Finding(Level.PROBLEM, "tables-missing", f"tables are missing: {', '.join(missing)}", _DAMAGED)
        return
    differing = sorted({part.name for part in {*schema_of(connection)} ^ {*present_schema()}})
    if differing:
        yield Finding(
            Level.PROBLEM,
            "schema-changed",
            f"not as streamstate made them: {', '.join(differing)}",
            "put back what a tool has changed, or restore a backup; streamstate may fail on it, and cannot upgrade it",
        )
    yield from _guarded("meta", path, _of_meta(found, connection, path, lock_epoch))
    yield from _guarded("rows", path, _of_counts(found, connection))
    for rule in RULES:
        yield from _guarded(
            rule.code, path, _of_rule(connection, rule.query, rule.code, f"{rule.broken}: {rule.effect}")
        )
    yield from _guarded("flaws", path, _of_flaws(connection))


def _guarded(what: str, path: Path, findings: Iterator[Finding]) -> Iterator[Finding]:
    """One part of the examination; that it cannot be done is a finding too, and the others go on."""
    try:
        yield from findings
    except apsw.Error as error:
        yield Finding(Level.PROBLEM, "unreadable", f"while looking at {what}: {storage_error(error, path)}", _DAMAGED)


def _of_integrity(connection: apsw.Connection, is_full: bool) -> Iterator[Finding]:
    pragma = "integrity_check" if is_full else "quick_check"
    lines = [str(row[0]) for row in ask(connection, f"PRAGMA {pragma}({_INTEGRITY_LINES_MAX})")]
    if lines != ["ok"]:
        text = "the database does not read back as it was written"
        yield Finding(Level.PROBLEM, "damaged", text, _DAMAGED, len(lines), tuple(lines[:_EXAMPLES_MAX]))


def _of_meta(found: Examination, connection: apsw.Connection, path: Path, lock_epoch: int) -> Iterator[Finding]:
    rows = ask(connection, "SELECT directory_id, epoch, clock_ms FROM meta")
    if len(rows) != 1:
        yield Finding(Level.PROBLEM, "meta", f"the table meta has {len(rows)} rows, expected 1", _DAMAGED)
        return
    ((found.directory_id, found.epoch, found.until_ms),) = rows
    found.application = "".join(row[0] for row in ask(connection, "SELECT name FROM application"))
    if older_copy(rows[0][1], lock_epoch):
        yield Finding(
            Level.PROBLEM,
            "older-copy",
            f"the database is of owner epoch {rows[0][1]}, but the directory was opened under {lock_epoch}: an older "
            "copy was put in its place",
            "put back the newer one; or take a backup, and restore that into a new directory",
        )
    ahead_ms = rows[0][2] - time.time_ns() // 1_000_000
    if ahead_ms > _CLOCK_AHEAD_MS_MAX:
        yield Finding(
            Level.NOTICE,
            "clock-ahead",
            f"the directory's clock is {ahead_ms // 1000:,} s ahead of this machine's: it never goes back, so its "
            "timers count from there",
            "correct this machine's clock, unless it was the one before that was wrong",
        )
    try:
        found.history = history_of(connection)
    except msgspec.MsgspecError as error:
        yield Finding(Level.PROBLEM, "undecodable", f"{_FLAWS['undecodable']}: the history: {error}", _DAMAGED)


def _of_counts(found: Examination, connection: apsw.Connection) -> Iterator[Finding]:
    found.rows = {name: ask(connection, f"SELECT count(*) FROM {name}")[0][0] for name in sorted(TABLE_NAMES)}
    found.statuses = dict(ask(connection, "SELECT status, count(*) FROM invocations GROUP BY status ORDER BY status"))
    found.waiting = [Waiting(*row) for row in ask(connection, _WAITING, (_WAITING_MAX,))]
    expired = ask(connection, "SELECT count(*) FROM invocations WHERE expires_ms <= ?", (found.until_ms,))[0][0]
    if expired:
        text = f"{expired:,} invocations are past their retention"
        yield Finding(Level.NOTICE, "expired", text, "nothing: they go a minute after the next start", expired)
    for service, key, count in ask(connection, _LONG_INBOXES, (_INBOX_LONG,)):
        text = f"{count:,} inputs wait for the key {service}/{key}"
        yield Finding(Level.NOTICE, "long-inbox", text, "find out what holds the key: is it paused, or slow?", count)
    for cluster, count, first, last in ask(connection, _OUTBOXES):
        if last - first + 1 != count:
            yield Finding(
                Level.NOTICE,
                "outbox-gap",
                f"of the messages to {cluster} from {first} to {last}, {last - first + 1 - count:,} are not there",
                "nothing if the App publishes to another cluster too, they were its; else messages are lost: "
                "compare the topics with what should be there",
                last - first + 1 - count,
            )


_WAITING = """
SELECT id, service || CASE key WHEN '' THEN '' ELSE '/' || key END || '.' || handler, status, created_ms, attempt,
    ifnull(CASE WHEN json_valid(failure) THEN failure ->> 2 END, '')
FROM invocations WHERE status IN ('paused', 'backing-off') ORDER BY created_ms, seq LIMIT ?
"""
_LONG_INBOXES = """
SELECT service, key, count(*) FROM invocations WHERE lane = 1 AND status = 'pending'
GROUP BY service, key HAVING count(*) >= ? ORDER BY 3 DESC LIMIT 3
"""
_OUTBOXES = "SELECT cluster, count(*), min(position), max(position) FROM outbox GROUP BY cluster ORDER BY cluster"


def _of_rule(connection: apsw.Connection, query: str, code: str, text: str) -> Iterator[Finding]:
    count, examples = 0, []
    for row in connection.execute(query):
        count += 1
        if count <= _EXAMPLES_MAX:
            examples.append(str(row[0]))
    if count:
        yield Finding(Level.PROBLEM, code, text, _CONTRADICTION, count, tuple(examples))


def _of_flaws(connection: apsw.Connection) -> Iterator[Finding]:
    found: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for code, label in flaws(connection):
        counts[code] = counts.get(code, 0) + 1
        if counts[code] <= _EXAMPLES_MAX:
            found.setdefault(code, []).append(label)
    for code, labels in found.items():
        remedy = _DAMAGED if code == "undecodable" else _CONTRADICTION
        yield Finding(Level.PROBLEM, code, _FLAWS[code], remedy, counts[code], tuple(labels))


def _of_program(found: Examination, connection: apsw.Connection, known: Known) -> Iterator[Finding]:
    """What the App would make of the directory."""
    if found.format != FORMAT_VERSION:
        return
    if found.application not in ("", known.app):
        yield Finding(
            Level.PROBLEM,
            "other-application",
            f"the directory belongs to App {found.application!r}, not to {known.app!r}",
            "start it with the App that it belongs to",
        )
    read = {row[0] for row in ask(connection, "SELECT DISTINCT subscription FROM positions")}
    for name in sorted(read - known.subscriptions):
        yield Finding(
            Level.NOTICE,
            "position-without-subscription",
            f"there are source positions of the subscription {name}, which the App does not have",
            "nothing if it was removed; if it was renamed, give it its old name: under a new one it begins anew",
        )
    begun = ask(
        connection, "SELECT service, handler, count(*) FROM invocations WHERE status <> 'completed' GROUP BY 1, 2"
    )
    for service, handler, count in begun:
        if (service, handler) not in known.handlers:
            yield Finding(
                Level.PROBLEM,
                "handler-gone",
                f"{count:,} invocations of {service}.{handler} have not ended, and the App has no such handler",
                "put the handler back until they have ended, or kill them",
                count,
            )
