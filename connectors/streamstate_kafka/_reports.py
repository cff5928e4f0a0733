"""The offsets of one source's consumer group: reported when they are durable, and never over another owner's.

R1: an offset is reported only after the marks that are there were read, and none ranks above ours (O4 of `_ownership`).
R2: what should be there is compared with what is: an offset that was not taken, that expired or that somebody
overwrote is reported again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping

from streamstate_kafka._client import ClientError, Group, Partition
from streamstate_kafka._notices import Notices
from streamstate_kafka._ownership import Ownership, Position

INTERVAL_S = 0.5  # lag tools look every few seconds; a commit of offsets at each of ours would be waste
CLAIM_S_MAX = 5.0  # a coordinator that moves, or loads its groups, is back in a second or two
CLAIM_RETRY_S = 0.2


class Reports:
    """Reports in the background.

    Attributes:
        loss: who has taken the group over; empty while it is ours.
    """

    def __init__(self, name: str, group: Group, ownership: Ownership) -> None:
        self._group = group
        self._ownership = ownership
        self._failures = Notices(f"consumer group {name!r}")
        self._strays = Notices(f"consumer group {name!r}")
        self._wanted: dict[Partition, Position] = {}
        self._there: dict[Partition, Position] = {}
        self._working: asyncio.Task[None] | None = None
        self.loss = ""

    async def claim(self, partitions: Collection[Partition], held: Mapping[Partition, Position]) -> str:
        """Become the one who reports, or give why that must not be. The held positions are there when this returns.

        Raises:
            ClientError: the group can be neither read nor written.
        """
        deadline = time.monotonic() + CLAIM_S_MAX
        while True:
            try:
                found = await self._group.reported(list(partitions)) if partitions else {}
                refusal = self._ownership.begin(found, held)
                if not refusal:
                    self._tell_stray(self._ownership.stray(found))
                    self._wanted = dict(held)
                    await self._report(held)
                return refusal
            except ClientError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(CLAIM_RETRY_S)

    def position(self, partition: Partition) -> int:
        """The last one that was durable, -1 where there is none."""
        return self._wanted[partition].offset if partition in self._wanted else -1

    def add(self, positions: Mapping[Partition, Position]) -> None:
        """These positions are durable. Never blocks."""
        self._wanted.update(positions)
        self._start()

    def forget(self, topics: Collection[str]) -> None:
        """What was said of these topics is of incarnations that are gone."""
        for known in (self._wanted, self._there):
            for partition in [partition for partition in known if partition[0] in topics]:
                del known[partition]

    async def check(self) -> None:
        """R2, and O4 where there is nothing to report."""
        if self._wanted and self._working is None:
            try:
                await self._look(list(self._wanted))
            except ClientError as error:
                self._tell_failure(error)
            self._start()

    async def close(self) -> None:
        """The last report, within a bounded time."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
            if not self._working.cancelled():
                self._working.result()
        await self._try()

    def _start(self) -> None:
        if self._working is None and self._due() and not self.loss:
            self._working = asyncio.create_task(self._work(), name="streamstate reports")

    async def _work(self) -> None:
        while self._due() and not self.loss:
            await self._try()
            await asyncio.sleep(INTERVAL_S)
        self._working = None

    async def _try(self) -> None:
        due = self._due()
        if not due or self.loss:
            return
        try:
            await self._look(list(due))
            if not self.loss:
                await self._report(due)
                self._failures.well()
        except ClientError as error:
            self._tell_failure(error)

    def _due(self) -> dict[Partition, Position]:
        return {partition: wanted for partition, wanted in self._wanted.items() if self._there.get(partition) != wanted}

    async def _look(self, partitions: Collection[Partition]) -> None:
        found = await self._group.reported(list(partitions))
        self.loss = self._ownership.loss(found)
        if not self.loss:
            self._tell_stray(self._ownership.stray(found))
        for partition in partitions:
            there = self._there.get(partition)
            if there is not None and found.get(partition) != self._ownership.offset(there):
                del self._there[partition]

    async def _report(self, positions: Mapping[Partition, Position]) -> None:
        """R1 holds at the call."""
        if positions:
            offsets = {partition: self._ownership.offset(position) for partition, position in positions.items()}
            await self._group.report(offsets)
            self._there.update(
                {partition: positions[partition] for partition in positions if partition in self._wanted}
            )

    def _tell_stray(self, stray: str) -> None:
        if stray:
            text = f"{stray}; it is overwritten, as positions are kept with the state"
            self._strays.warn("stray", text)

    def _tell_failure(self, error: ClientError) -> None:
        self._failures.warn("report", f"offsets not reported, lag tools show older ones: {error}")
