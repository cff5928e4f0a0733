"""Who reads on behalf of a consumer group: the mark that reported offsets carry, and what follows from another's.

O1: every offset that is reported carries, in its metadata, the mark of the start that reports it.
O2: a start that finds the mark of another data directory refuses, or takes over if it was told to.
O3: a start that finds its own directory's mark ahead of what the directory holds refuses likewise: it is an older copy.
O4: a start's mark ranks above all that it found. Of two that report to one group the one with the lower mark stops, and
whoever wrote last does not matter; so that a process that slept through a take-over ends at its next report.

A directory's next start ranks above its last one by the same rule. Offsets without a mark bind nobody.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from streamstate.ingress import Owner
from streamstate_kafka._client import GroupOffset, Partition

CHOICES = (
    "stop that one for good and take over (streamstate run --take-over, or App.embedded(…, take_over=True)); "
    "or give this App or this subscription another name"
)


class Position(NamedTuple):
    """Up to where a partition is durably read, and of which incarnation of its topic."""

    offset: int
    topic_id: str


class Mark(msgspec.Struct, frozen=True, tag_field="by", tag="streamstate"):
    """One start of one data directory.

    Attributes:
        term: one more than the highest that the start found.
        nonce: decides between starts that found the same; no two have the same.
        epoch: counts the starts of the directory.
        topic_id: which incarnation of the topic the offset is of.
    """

    term: int
    nonce: str
    directory: str
    epoch: int
    topic_id: str

    @property
    def rank(self) -> tuple[int, str]:
        return (self.term, self.nonce)


def mark_in(metadata: str) -> Mark | None:
    """None where somebody else wrote it."""
    try:
        return msgspec.json.decode(metadata, type=Mark)
    except msgspec.DecodeError:
        return None


class Ownership:
    """What one start of one data directory may do with one consumer group."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._term = 1
        self._nonce = secrets.token_hex(4)

    def offset(self, position: Position) -> GroupOffset:
        """O1: what to report."""
        mark = Mark(self._term, self._nonce, self._owner.directory_id, self._owner.epoch, position.topic_id)
        return GroupOffset(position.offset, msgspec.json.encode(mark).decode())

    def begin(self, found: Mapping[Partition, GroupOffset], held: Mapping[Partition, Position]) -> str:
        """Rank above what was found; gives why this start must not be (O2, O3), or nothing."""
        marks = _marks(found)
        self._term = max((mark.term for mark in marks.values()), default=0) + 1
        if self._owner.takes_over:
            return ""
        for partition, mark in marks.items():
            refusal = self._refusal(partition, found[partition].offset, mark, held.get(partition))
            if refusal:
                return refusal
        return ""

    def _refusal(self, partition: Partition, offset: int, mark: Mark, held: Position | None) -> str:
        place = f"offset {offset} of topic {partition[0]!r} partition {partition[1]}"
        here = f"data directory {self._owner.directory_id} (start {self._owner.epoch})"
        if mark.directory != self._owner.directory_id:
            return (
                f"its offsets are reported by {_who(mark)}, for instance {place}, and this is {here}: both would "
                f"handle every record. Choose: start on that directory; {CHOICES}"
            )
        is_ahead = held is not None and held.topic_id == mark.topic_id and offset > held.offset
        if not is_ahead and mark.epoch < self._owner.epoch:
            return ""
        at = "no position" if held is None else f"offset {held.offset}"
        return (
            f"{place} was reported by {_who(mark)}, and this is {here} with {at}: an older copy, a restored backup "
            f"perhaps, which would handle the records in between again. Choose: start on the newer one; {CHOICES}"
        )

    def loss(self, found: Mapping[Partition, GroupOffset]) -> str:
        """O4: by whom the group was taken over, or nothing."""
        mine = (self._term, self._nonce)
        for mark in _marks(found).values():
            if mark.rank > mine:
                return (
                    f"{_who(mark)} has taken over, and this process, on data directory {self._owner.directory_id} "
                    f"(start {self._owner.epoch}), stops. Choose: leave it to that one; or {CHOICES}"
                )
        return ""

    def stray(self, found: Mapping[Partition, GroupOffset]) -> str:
        """An offset that is of another owner, or of none, or nothing."""
        for (topic, number), offset in found.items():
            mark = mark_in(offset.metadata)
            if mark is None or mark.directory != self._owner.directory_id:
                who = "not of streamstate" if mark is None else f"of {_who(mark)}"
                return f"the offset of topic {topic!r} partition {number} is {who}"
        return ""


def _marks(found: Mapping[Partition, GroupOffset]) -> dict[Partition, Mark]:
    marks = {partition: mark_in(offset.metadata) for partition, offset in found.items()}
    return {partition: mark for partition, mark in marks.items() if mark is not None}


def _who(mark: Mark) -> str:
    return f"data directory {mark.directory} (start {mark.epoch})"
