"""From a backup to a data directory.

V1  The directory is new to its application only when it is whole: until then its database has another name, and the
    directory is refused by name, not taken for an empty one.
V2  It keeps the directory's id, and gets an owner epoch that no copy of it ever had: what it reports and publishes can
    be told from what any other copy does, and ids that it gives never come twice.
V3  What the backup holds of the outbox may have left since it was taken. Whoever restores decides; the choice is kept.
V4  Source positions go back with the state that they belong to: records behind them are processed again.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import msgspec

from streamstate.errors import StorageError, UsageError
from streamstate.storage._backup import (
    UNFINISHED,
    BackupFacts,
    Progress,
    changing,
    copy_pages,
    read_backup,
    remove_unfinished,
    sync_directory,
    verify,
)
from streamstate.storage._glance import DATABASE_FILE, SIDE_FILES, check_kind, glance
from streamstate.storage._guard import GUARD_FILE
from streamstate.storage._history import Restored, note
from streamstate.storage._lock import DirectoryLock
from streamstate.storage._schema import APPLICATION_ID, BACKUP_ID, FORMAT_VERSION
from streamstate.storage._upgrade import upgrade

OutboxChoice = Literal["keep", "drop"]


class RestoreFacts(msgspec.Struct, frozen=True):
    """What a restore did.

    Attributes:
        directory: the new data directory. backup: what it was made of.
        epoch: its owner epoch, that of the first start is one more.
        outbox: what was decided about the messages in the backup; None where there were none.
        messages: how many there were.
    """

    directory: Path
    backup: BackupFacts
    epoch: int
    outbox: OutboxChoice | None
    messages: int


def restore_backup(
    backup: Path, directory: Path, outbox: OutboxChoice | None = None, progress: Progress | None = None
) -> RestoreFacts:
    """Make a data directory of a backup.

    Args:
        backup: the file.
        directory: the data directory; it must hold no data, and is made if it is not there.
        outbox: "keep" publishes the messages in the backup at the first start, those again that left since it was
            taken; "drop" forgets them, those too that have never left. Needed if there are any.
        progress: is told how far it is.

    Raises:
        UsageError: there are messages, and `outbox` does not say what becomes of them.
        StorageFormatError: not a backup.
        StorageCorruptError: the backup does not read back as it was written.
        StorageError: the directory holds data, is in use, or cannot be written.
    """
    facts = read_backup(backup)
    messages = facts.rows["outbox"]
    if messages and outbox is None:
        raise UsageError(
            f"{backup} holds {messages:,} messages that were not acknowledged when it was taken; some may have left. "
            "--outbox keep publishes them at the first start, with the ids that they had: consumers see some twice; "
            "--outbox drop forgets them: those that had not left never will"
        )
    directory = directory.absolute()
    _make(directory)
    lock = DirectoryLock.acquire(directory)
    try:
        partial = unfinished_restore(directory)
        _refuse_data(directory)
        remove_unfinished(partial)
        try:
            epoch = _build(facts, partial, lock.previous.epoch, outbox or "keep", progress)
            # That of a database which is gone; without one, the next opening has less to compare.
            (directory / GUARD_FILE).unlink(missing_ok=True)
            partial.rename(directory / DATABASE_FILE)
            sync_directory(directory)
        except OSError as error:
            raise StorageError(f"cannot write {partial} ({error.strerror}); check the disk") from error
        finally:
            remove_unfinished(partial)
        lock.record(epoch)
    finally:
        lock.release()
    return RestoreFacts(directory, facts, epoch, outbox if messages else None, messages)


def unfinished_restore(directory: Path) -> Path:
    """The name of the database while it is being restored."""
    return directory / (DATABASE_FILE + UNFINISHED)


def refuse_unfinished_restore(directory: Path) -> None:
    """V1.

    Raises:
        StorageError: a restore into this directory was cut short.
    """
    partial = unfinished_restore(directory)
    if partial.exists():
        raise StorageError(
            f"a restore into the data directory {directory} was cut short; run `streamstate restore` again, "
            f"or remove {partial.name} to start from nothing"
        )


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        sync_directory(directory.parent)
    except OSError as error:
        raise StorageError(
            f"cannot make the data directory {directory} ({error.strerror}); "
            "choose a path whose parent this user can write to"
        ) from error


def _refuse_data(directory: Path) -> None:
    for name in (DATABASE_FILE, *(DATABASE_FILE + side for side in SIDE_FILES)):
        if (directory / name).exists():
            raise StorageError(
                f"the data directory {directory} is not empty: {name} is there; a restore overwrites nothing: "
                "move that directory away, or choose another one"
            )


def _build(
    facts: BackupFacts, partial: Path, epoch_before: int, outbox: OutboxChoice, progress: Progress | None
) -> int:
    """The database of the new directory, under another name; its owner epoch."""
    with glance(facts.path) as source:
        check_kind(source, facts.path, BACKUP_ID)
        copy_pages(source, partial, progress)
    with changing(partial) as copy:
        if facts.format < FORMAT_VERSION:
            upgrade(copy, partial, facts.format)
        now_us = time.time_ns() // 1_000
        # V2: ahead of every epoch that counts openings, and of every restore before this one.
        epoch = max(facts.epoch + 1, epoch_before + 1, now_us)
        copy.execute("BEGIN")
        copy.execute("UPDATE meta SET epoch = ?", (epoch,))
        if outbox == "drop":
            copy.execute("DELETE FROM outbox")
        note(copy, Restored(facts.until_ms, facts.epoch, outbox, facts.rows["outbox"]), now_us // 1_000)
        copy.execute("COMMIT")
        verify(copy, partial)
        copy.pragma("application_id", APPLICATION_ID)
    return epoch
