"""Group commit: one batch is filled while the one before it is being written; nothing is released before it is durable.

C1  Batches become durable in the order in which they were sealed.
C2  What a batch releases (replies, steps, messages) leaves after its commit, in order.
C3  A commit that fails stops everything: memory is then ahead of the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from streamstate.engine._keys import Live
from streamstate.errors import CommitFailedError, InvocationPausedError
from streamstate.journal import Outcome
from streamstate.storage import Batch, Store


@dataclass(slots=True)
class Releases:
    """What leaves when a batch is durable.

    Attributes:
        replies: futures of callers in this process, with their outcome.
        accepted: futures of callers that wait for durability alone.
        steps: actions to start: the invocation and the index of its command.
        reads: reads that were put off to the next turn: the invocation, the index and the name.
        records: how many source records the batch decides, by subscription.
        counted: suspects whose count is in the batch: they may run. cleared: ids of those that are none any more.
    """

    replies: list[tuple[asyncio.Future[Outcome], Outcome | InvocationPausedError]] = field(default_factory=list)
    accepted: list[asyncio.Future[None]] = field(default_factory=list)
    steps: list[tuple[Live, int]] = field(default_factory=list)
    reads: list[tuple[Live, int, str]] = field(default_factory=list)
    records: dict[str, int] = field(default_factory=dict)
    counted: list[Live] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)

    def answer(self) -> None:
        """Tell the callers in this process."""
        for reply, outcome in self.replies:
            if reply.done():
                continue
            if isinstance(outcome, InvocationPausedError):
                reply.set_exception(outcome)
            else:
                reply.set_result(outcome)
        for accepted in self.accepted:
            if not accepted.done():
                accepted.set_result(None)


class Commits:
    """The batch that is being filled, and the one that is being written.

    Args:
        writer: runs `store.commit`; None commits inline, for a store in memory.
        before_seal: puts into the batch what must be in it at its end.
        released: is given each batch when it is durable.
        failed: is told that a commit failed.
    """

    def __init__(
        self,
        store: Store,
        writer: Executor | None,
        before_seal: Callable[[Batch], None],
        released: Callable[[Batch, Releases], None],
        failed: Callable[[CommitFailedError], None],
    ) -> None:
        self._store = store
        self._writer = writer
        self._before_seal = before_seal
        self._released = released
        self._failed = failed
        self._writing: asyncio.Future[None] | None = None
        self._is_committing_inline = False
        self._has_failed = False
        self.batch = Batch()
        self.releases = Releases()
        self.number = 1
        self.durable = 0
        self.records_ahead: dict[str, int] = {}
        self._is_dirty = False

    def add_records(self, subscription: str, count: int) -> None:
        """The batch decides so many records more."""
        records = self.releases.records
        records[subscription] = records.get(subscription, 0) + count
        self.records_ahead[subscription] = self.records_ahead.get(subscription, 0) + count

    def touch(self) -> int:
        """Mark the batch as holding something; its number."""
        self._is_dirty = True
        return self.number

    @property
    def is_idle(self) -> bool:
        """True when nothing is being written and nothing waits to be."""
        return self._writing is None and not self._is_dirty and not self._is_committing_inline

    def commit(self) -> None:
        """Seal the batch and write it, unless one is being written: then it is sealed when that is done."""
        if self._writer is None:
            self._commit_inline()
        elif self._writing is None and self._is_dirty and not self._has_failed:
            batch, releases = self._seal()
            loop = asyncio.get_running_loop()
            self._writing = loop.run_in_executor(self._writer, self._store.commit, batch)
            self._writing.add_done_callback(lambda written: self._written(written, batch, releases))

    def _commit_inline(self) -> None:
        if self._is_committing_inline:
            return
        self._is_committing_inline = True
        try:
            while self._is_dirty and not self._has_failed:
                batch, releases = self._seal()
                try:
                    self._store.commit(batch)
                except Exception as error:  # noqa: BLE001  # whatever it was, nothing may go on
                    self._fail(error, releases)
                    return
                self._release(batch, releases)
        finally:
            self._is_committing_inline = False

    def _seal(self) -> tuple[Batch, Releases]:
        self._before_seal(self.batch)
        sealed = self.batch, self.releases
        self.batch, self.releases = Batch(), Releases()
        self.number += 1
        self._is_dirty = False
        return sealed

    def _written(self, written: asyncio.Future[None], batch: Batch, releases: Releases) -> None:
        self._writing = None
        if written.cancelled():
            return
        error = written.exception()
        if error is not None:
            self._fail(error, releases)
        else:
            self._release(batch, releases)
            self.commit()

    def _release(self, batch: Batch, releases: Releases) -> None:
        self.durable += 1
        for subscription, count in releases.records.items():
            self.records_ahead[subscription] -= count
        self._released(batch, releases)

    def _fail(self, error: BaseException, releases: Releases) -> None:
        self._has_failed = True
        # Those who wait for the batch that was lost are told with those who wait for the next one.
        self.releases.replies.extend(releases.replies)
        self.releases.accepted.extend(releases.accepted)
        if not isinstance(error, CommitFailedError):
            failure = CommitFailedError(
                f"a commit failed: {error}. The engine has stopped; see the cause, then start it again"
            )
            failure.__cause__ = error
            error = failure
        self._failed(error)
