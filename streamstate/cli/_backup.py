"""`streamstate backup` and `streamstate restore`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from streamstate.cli._output import Rows, console, show
from streamstate.storage import BackupFacts, OutboxChoice, RestoreFacts, restore_backup, take_backup

_PAGE_BYTES = 4_096  # of SQLite; only the bar is measured by it
_BAR_PAGES_MIN = 25_000  # 100 MB: less is done before a bar can be read


@click.command("backup")
@click.argument("data_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backup_command(data_dir: Path, destination: Path, as_json: bool) -> None:
    """Write a backup of a data directory into a new file, DESTINATION.

    The application may go on running: the backup is one moment between two of its commits, and nothing of the
    directory is written or locked. While it is taken, the directory's log keeps what is committed: leave it room.

    A backup is read back before it gets its name. One that was cut short is called DESTINATION.partial, and is none.
    It becomes a data directory by `streamstate restore`, not by being copied.

    \b
    Example:
      streamstate backup /var/lib/shop /backups/shop-monday
    """
    with _progress("backup") as told:
        facts = take_backup(data_dir, destination, told)
    if as_json:
        click.echo(_json(facts))
        return
    to = console()
    to.print(f"{destination} is a backup of {data_dir}\n", soft_wrap=True)
    show(to, Rows(("backup", "holds"), _fact_cells(facts)))


@click.command("restore")
@click.argument("backup", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("data_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--outbox",
    type=click.Choice(["keep", "drop"]),
    help="What becomes of messages that were not acknowledged when the backup was taken; needed if there are any.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def restore_command(backup: Path, data_dir: Path, outbox: OutboxChoice | None, as_json: bool) -> None:
    """Make a data directory of a BACKUP. It must hold no data; nothing is overwritten.

    Everything goes back to the moment of the backup: state, timers, invocations, and the source positions with them.
    Records behind those positions are processed again, as far as their topics still have them; steps that ran after the
    backup run again, and messages that left after it leave again, with the same ids.

    \b
    --outbox keep   publishes the messages in the backup: consumers see those
                    twice that left after it was taken
    --outbox drop   forgets them: those that had not left never will

    The new directory has the id of the one that was backed up, and an owner epoch above it. Only one of the two may run
    from now on: remove the other one, or keep it from being started.

    \b
    Example:
      streamstate restore /backups/shop-monday /var/lib/shop --outbox keep
    """
    with _progress("restore") as told:
        done = restore_backup(backup, data_dir, outbox, told)
    if as_json:
        click.echo(_json(done))
        return
    to = console()
    to.print(f"{data_dir} is a data directory made of {backup}\n", soft_wrap=True)
    show(to, Rows(("backup", "holds"), _fact_cells(done.backup)))
    for sentence in _consequences(done):
        to.print(f"- {sentence}")


def moment(ms: int) -> str:
    """A moment for people, in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def size(count: int) -> str:
    """Bytes for people."""
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} bytes"


@contextmanager
def _progress(what: str) -> Iterator[_Told]:
    to = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=to, disable=not to.is_terminal, transient=True) as bars:
        yield _Told(bars)


class _Told:
    """What the copying is told to: shows a bar once there is enough to show."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._bar = bars.add_task("", total=None, visible=False)

    def __call__(self, done: int, pages: int) -> None:
        self._bars.update(
            self._bar, completed=done * _PAGE_BYTES, total=pages * _PAGE_BYTES, visible=pages >= _BAR_PAGES_MIN
        )


def _fact_cells(facts: BackupFacts) -> list[tuple[str, str]]:
    rows = ", ".join(f"{count:,} {table}" for table, count in facts.rows.items() if count and table != "meta")
    return [
        ("moment", f"everything up to {moment(facts.until_ms)}" if facts.until_ms else "nothing was committed yet"),
        ("directory", f"{facts.directory_id}, owner epoch {facts.epoch}, format {facts.format}"),
        ("size", size(facts.bytes)),
        ("rows", rows or "none"),
    ]


def _consequences(done: RestoreFacts) -> list[str]:
    sentences = [
        f"Source positions are those of {moment(done.backup.until_ms)}: later records are processed again, as far as "
        "their topics still have them.",
        f"The directory that was backed up has the same id, {done.backup.directory_id}: it must not run any more.",
    ]
    if done.outbox == "keep":
        sentences.append(f"{done.messages:,} messages are published at the first start; some may have left before.")
    elif done.outbox == "drop":
        sentences.append(f"{done.messages:,} messages were dropped; those that had not left never will.")
    return sentences


def _json(facts: BackupFacts | RestoreFacts) -> str:
    return json.dumps(msgspec.to_builtins(facts, enc_hook=str), indent=2, ensure_ascii=False)
