"""`streamstate doctor`: what a data directory holds, and what is wrong with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.text import Text

from streamstate.app import App
from streamstate.cli._backup import moment, size
from streamstate.cli._load import Target, TargetType, load
from streamstate.cli._output import Rows, console, show
from streamstate.storage import Examination, Finding, HistoryRow, Known, Level, Restored, Waiting, examine

_REASON_LENGTH_MAX = 80


@click.command("doctor")
@click.argument("data_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--full", is_flag=True, help="Check every index against its table too; reads everything more than once.")
@click.option(
    "--app", "target", metavar="MODULE:APP", type=TargetType(), help="Compare with this App: its handlers, its name."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor_command(data_dir: Path, full: bool, target: Target | None, as_json: bool) -> None:
    """Examine a data directory and say what is wrong with it, and what to do. It changes nothing.

    The application may go on running; meanwhile the directory's log keeps what is committed. Looks at its owner and
    format, at every page (checksums included), at rows that contradict each other or do not decode, at sizes and the
    disk, and at what is paused or retried.

    Exits with 1 when there are problems; notices alone are no problem.

    \b
    Example:
      streamstate doctor /var/lib/shop --app shop:app
    """
    known = None if target is None else _known(load(target))
    found = examine(data_dir, full=full, known=known)
    problems = found.of_level(Level.PROBLEM)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2, ensure_ascii=False))
    else:
        _report(found, console())
    for problem in problems:
        click.echo(f"Problem: {problem.text}", err=True)
    if problems:
        sys.exit(1)


def _known(app: App) -> Known:
    program = app.program
    return Known(
        app.name,
        frozenset(subscription.name for subscription in program.subscriptions),
        frozenset(
            (spec.service, spec.name) for service in program.services.values() for spec in service.handlers.values()
        ),
    )


def _report(found: Examination, to: Console) -> None:
    show(to, Rows(("directory", "value"), list(_facts(found))))
    if found.waiting:
        columns = ("oldest waiting", "target", "status", "since", "attempts", "last failure")
        show(to, Rows(columns, [_waiting(each) for each in found.waiting]))
    for finding in found.findings:
        to.print(Text(f"{finding.level.value}: {finding.text}", style="bold"), overflow="fold")
        for line in _details(finding):
            to.print(Text(f"  {line}"), overflow="fold")
        to.print()
    if not found.of_level(Level.PROBLEM):
        extent = "every page and every index was" if found.is_full else "every page was"
        to.print(f"no problems found; {extent} checked")


def _facts(found: Examination) -> Iterator[tuple[str, str]]:
    owner = found.owner or "nobody that it knows of"
    yield "path", found.directory
    yield "state", f"in use by {owner}" if found.is_running else f"not in use; last by {owner}"
    if found.format is not None:
        yield "format", str(found.format)
    if found.directory_id is not None:
        yield "id", f"{found.directory_id}, owner epoch {found.epoch}"
        yield "application", found.application or "not recorded"
    if found.until_ms is not None:
        yield "last durable moment", moment(found.until_ms) if found.until_ms else "none"
    for row in found.history:
        yield f"at {moment(row.at_ms)}", _event(row)
    yield (
        "size",
        f"database {size(found.database_bytes)}, log {size(found.log_bytes)}; disk free {size(found.free_bytes)}",
    )
    if found.rows:
        yield (
            "rows",
            _counted({name: count for name, count in found.rows.items() if name not in ("meta", "application")}),
        )
    if found.statuses:
        yield "invocations", _counted(found.statuses)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"


def _event(row: HistoryRow) -> str:
    event = row.event
    if isinstance(event, Restored):
        outbox = f", {event.messages:,} messages: {event.outbox}" if event.messages else ""
        return f"restored from a backup of {moment(event.until_ms)} (owner epoch {event.taken_epoch}{outbox})"
    return f"upgraded from format {event.from_version} to {event.to_version}"


def _waiting(each: Waiting) -> tuple[str, ...]:
    reason = " ".join(each.reason.split())
    shown = reason if len(reason) <= _REASON_LENGTH_MAX else reason[:_REASON_LENGTH_MAX] + "…"
    return each.id, each.target, each.status, moment(each.created_ms), str(each.attempt), shown


def _details(finding: Finding) -> Iterator[str]:
    yield from (f"- {example}" for example in finding.examples)
    if finding.count > len(finding.examples) > 0:
        yield f"- and {finding.count - len(finding.examples):,} more"
    yield f"→ {finding.remedy}"
