"""Looks at every commit as it reaches the disk: what is durable only grows, and never contradicts itself.

It knows rows and ledgers, and nothing of how the engine comes to them.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec

from streamstate.journal import Command, Completion, Entry, Kind, Outcome, Success
from streamstate.storage import Batch, InvocationRow, MemoryStore, Status
from streamstate.storage._memory_content import Content
from tests.simulation.plans import Script
from tests.simulation.witness import Witness

Ident = tuple[str, str]

# The last one is about crashes, of which a plan has many in a short time.
_PLANNED = ("planned failure", "paused by a person", "the process ended without a word")
_ledger = msgspec.json.Decoder(list[str])


class _Tagged(msgspec.Struct):
    tag: str = ""


_tagged = msgspec.json.Decoder(_Tagged)
_scripts = msgspec.json.Decoder(Script)


def tag_of(body: bytes | None) -> str:
    """The tag of the script in an input; letters have none."""
    return _tagged.decode(body).tag if body else ""


class Audit:
    """See the module.

    Attributes:
        ledgers: of all objects, as they are on disk. past: those of objects that were forgotten.
        known: tags of all invocations that were ever on disk. ended: their outcomes.
        messages: ids and positions of published messages on disk. promises: as they are on disk.
        clock_ms: the latest moment that a batch carries.
    """

    def __init__(self, witness: Witness, content: Content) -> None:
        self._witness = witness
        self._content = content
        self.ledgers: dict[Ident, list[str]] = {}
        self.past: list[tuple[Ident, list[str]]] = []
        self.known: dict[str, str] = {}
        self.ended: dict[str, Outcome] = {}
        self.failed: set[str] = set()
        self.messages: dict[str, int] = {}
        self.promises: dict[tuple[str, str, str], Outcome] = {}
        self.positions: dict[object, int] = {}
        self.clock_ms = 0
        self.commits = 0
        self._rows: dict[str, InvocationRow] = {}
        self._logs: dict[str, list[Entry]] = {}
        self._holders: dict[Ident, int] = {}
        self._tags: dict[str, str] = {}

    def look(self, batch: Batch) -> None:
        """One commit, after it has become durable."""
        self.commits += 1
        witness = self._witness
        if witness.is_tracing:
            witness.note("commit", self.commits, _digest(batch))
        if batch.clock_ms < self.clock_ms:
            witness.violate("I6", f"the durable clock went back from {self.clock_ms} to {batch.clock_ms}")
        self.clock_ms = max(self.clock_ms, batch.clock_ms)
        self._look_at_invocations(batch)
        for invocation, (first, entries) in batch.journal.items():
            self._look_at_journal(batch, invocation, first, entries)
        self._look_at_state(batch)
        for position, offset in batch.positions.items():
            if offset < self.positions.get(position, 0):
                witness.violate("I10", f"the position {position} went back from {self.positions[position]} to {offset}")
            self.positions[position] = offset
        for message in batch.outbox:
            if message.message_id in self.messages:
                witness.violate("I6", f"message {message.message_id} is published twice")
            elif self.messages and message.position <= max(self.messages.values()):
                witness.violate("I7", f"message {message.message_id} has the place of an earlier one")
            self.messages[message.message_id] = message.position
        for promise, outcome in batch.promises.items():
            before = self.promises.get(promise)
            if before is not None and outcome != before and promise[:2] not in batch.forgotten:
                witness.violate("I2", f"promise {promise} was {before}, and is {outcome}")
            if outcome is not None:
                self.promises[promise] = outcome

    def _look_at_invocations(self, batch: Batch) -> None:
        for invocation, row in batch.invocations.items():
            before = self._rows.get(invocation)
            if row is None:
                self._forget(invocation)
                continue
            if before is None:
                self._tags[invocation] = tag = tag_of(row.input)
                if tag:
                    self.known[tag] = invocation
            elif before.status is Status.COMPLETED and (row.result, row.failure) != (before.result, before.failure):
                self._witness.violate("I2", f"{self._tags[invocation]} had ended with another outcome than {row}")
            self._rows[invocation] = row
            tag = self._tags[invocation]
            if row.status is Status.COMPLETED:
                self.ended[tag] = row.failure or Success(row.result)
                if row.failure is not None:
                    self.failed.add(tag)
            elif row.status is Status.PAUSED:
                self._look_at_pause(tag, row)
        for row in batch.invocations.values():
            if row is not None and row.lane:
                self._look_at_lane(row)

    def _look_at_pause(self, tag: str, row: InvocationRow) -> None:
        """I8: nothing is paused but what the plan makes fail too often."""
        message = row.failure.message if row.failure is not None else ""
        self._witness.count("paused")
        if not any(planned in message for planned in _PLANNED):
            self._witness.violate("I8", f"{tag} is paused: {message}")

    def _look_at_lane(self, row: InvocationRow) -> None:
        """I4: of those that want a key, only the first has begun."""
        if row.status in (Status.PENDING, Status.SCHEDULED, Status.COMPLETED):
            return
        others = self._content.lanes.get((row.service, row.key), ())
        for other in others:
            before = self._rows[other]
            if before.seq < row.seq:
                first, second = self._tags[other], self._tags[row.id]
                self._witness.violate("I4", f"{second} is {row.status} while {first} is {before.status}")

    def _forget(self, invocation: str) -> None:
        self._rows.pop(invocation, None)
        self._logs.pop(invocation, None)
        tag = self._tags.pop(invocation, None)
        if tag:
            self._witness.durable = {key: kept for key, kept in self._witness.durable.items() if key[0] != tag}

    def _look_at_journal(self, batch: Batch, invocation: str, first: int, entries: list[Entry]) -> None:
        """I7 and I8: what a handler has seen stays as it was; only arrivals that it has not seen may move back."""
        row = batch.invocations.get(invocation) or self._rows.get(invocation)
        if row is None:
            self._witness.violate("I5", f"a journal without an invocation: {invocation}")
            return
        log = self._logs.get(invocation, [])
        tag = self._tags[invocation]
        if first > len(log):
            self._witness.violate("I7", f"the journal of {tag} goes on at {first}, but ends at {len(log)}")
            return
        replaced, log = log[first:], [*log[:first], *entries]
        self._logs[invocation] = log
        lost = [each for each in replaced if isinstance(each, Completion) and each not in entries]
        for each in lost if row.status is not Status.COMPLETED else ():
            if not any(isinstance(new, Completion) and new.index == each.index for new in entries):
                self._witness.violate("I7", f"the journal of {tag} lost {each}")
        if any(isinstance(each, Command) for each in replaced) and replaced[: len(entries)] != entries[: len(replaced)]:
            self._witness.violate("I7", f"the journal of {tag} was rewritten at {first}: {replaced} became {entries}")
        commands = [each for each in log if isinstance(each, Command)]
        for entry in entries:
            if isinstance(entry, Command):
                if entry.kind == Kind.RUN:
                    self._witness.asked.add((tag, entry.name))
            elif isinstance(entry, Completion):
                self._look_at_completion(tag, commands[entry.index], entry.outcome)
        twice = [
            index
            for index, count in Counter(each.index for each in log if isinstance(each, Completion)).items()
            if count > 1
        ]
        if twice:
            results = [
                (commands[each.index].kind, each)
                for each in log
                if isinstance(each, Completion) and each.index in twice
            ]
            self._witness.violate("I3", f"the journal of {tag} has several results for one command: {results}")

    def _look_at_completion(self, tag: str, command: Command, outcome: Outcome) -> None:
        witness = self._witness
        if command.kind == Kind.RUN:
            value = outcome.value if isinstance(outcome, Success) else outcome.message.encode()
            kept = witness.durable.setdefault((tag, command.name), value)
            if kept != value:
                witness.violate("I3", f"the result of {tag} at {command.name} was {kept!r}, and is {value!r}")

    def _look_at_state(self, batch: Batch) -> None:
        """I5 and I7: a ledger only grows."""
        for ident in batch.forgotten:
            ledger = self.ledgers.pop(ident, None)
            if ledger is not None:
                self.past.append((ident, ledger))
            self.promises = {key: kept for key, kept in self.promises.items() if key[:2] != ident}
        for ident, changes in batch.state.items():
            raw = changes.get("ledger")
            if raw is None:
                continue
            before, after = self.ledgers.get(ident, []), _ledger.decode(raw)
            if after[: len(before)] != before:
                self._witness.violate("I5", f"the ledger of {ident} was {before}, and is {after}")
            self.ledgers[ident] = after

    def is_durable(self, tag: str, ident: Ident | None) -> bool:
        """Whether there is any trace of this input on disk."""
        if tag in self.known:
            return True
        return ident is not None and f"b {tag}" in self.ledgers.get(ident, ())

    def unfinished(self) -> list[str]:
        """What has not ended, for a person."""
        return [
            f"{self._tags[row.id]} {row.service}/{row.key}.{row.handler} is {row.status}"
            + (f": {row.failure.message}" if row.failure is not None else "")
            for row in self._rows.values()
            if row.status is not Status.COMPLETED
        ]

    def lines(self) -> dict[Ident, list[list[str]]]:
        """All ledgers there ever were, by object."""
        found: dict[Ident, list[list[str]]] = defaultdict(list)
        for ident, ledger in [*self.past, *self.ledgers.items()]:
            found[ident].append(ledger)
        return found


class AuditedStore(MemoryStore):
    """The store in memory, each of its commits looked at."""

    __slots__ = ("_audit",)

    def __init__(self, content: Content, audit: Audit) -> None:
        super().__init__(content)
        self._audit = audit

    def commit(self, batch: Batch) -> None:
        super().commit(batch)
        self._audit.look(batch)


def _digest(batch: Batch) -> str:
    """The batch in short, without what differs between processes: the stack of a failure names addresses."""
    rows = " ".join(f"{key[4:10]}={'-' if row is None else row.status}" for key, row in batch.invocations.items())
    parts = (
        {ident: sorted(changes) for ident, changes in batch.state.items()},
        {key[4:10]: (first, [_brief(entry) for entry in entries]) for key, (first, entries) in batch.journal.items()},
        {(key[0][4:10], *key[1:]): None if row is None else row.fire_ms for key, row in batch.timers.items()},
        sorted(batch.forgotten),
        list(batch.positions.values()),
        [message.position for message in batch.outbox],
        batch.outbox_done,
        batch.clock_ms,
    )
    return f"{rows} {' '.join(str(part) for part in parts if part)}"


def _brief(entry: Entry) -> str:
    match entry:
        case Command():
            return f"{entry.kind} {entry.name}"
        case Completion():
            return f"→{entry.index} {'ok' if isinstance(entry.outcome, Success) else entry.outcome.message}"
        case _:
            return str(entry)
