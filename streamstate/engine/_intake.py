"""The fast path: records of one subscription, decided one after the other.

R1  Every record is decided when its turn comes: it ended, or it is durable with the batch as an invocation. So the
    source position is always behind the last record looked at, and in the same batch as the effects (I2, I10).
R2  An event whose key is busy waits in the key's queue; it never holds back its partition.
R3  A handler that ends in its first turn leaves nothing but its effects: no row, no journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from sys import getrefcount
from typing import Any

from streamstate.context import ENDED_EMPTY, Ended, HandlerLoop, Session, Setting, enter_loop, leave_loop
from streamstate.definitions import HandlerKind, Record, Skip, SubscriptionSpec
from streamstate.engine._core import Core, Request
from streamstate.engine._effects import Effects, Sender, identity_of
from streamstate.engine._executor import CONTEXTS, Executor
from streamstate.engine._keys import KeySlot
from streamstate.errors import SerdeError, SubscriptionStoppedError, UsageError
from streamstate.journal import Command, Success, record_identity
from streamstate.serde import quick_codec
from streamstate.storage import Origin

_NULL_KEY = "Give the subscription a key function, or let such records pass with @subscribe(…, on_null_key=Skip())"
_UNDECODABLE = (
    "Correct the payload type or its serde, or let such records pass with @subscribe(…, on_undecodable=Skip())"
)
_NO_STATE: Mapping[str, bytes] = {}

# Records a source hands over at once may all have been taken in beyond the limit of a subscription.
SUSPECTS_MORE = 1_000

# Who holds a context that nobody but the intake knows: its attribute, the local name, the argument of getrefcount.
_CONTEXT_REFERENCES = 3


class Skipped(Exception):  # a decision, not an error
    """The subscription's policy drops the record."""


class Intake:
    """Takes in the records of one subscription.

    Attributes:
        skipped: how many records its policies have dropped.

    Args:
        positions: per (topic, topic id, partition), the offset of the next record to take.
    """

    def __init__(
        self,
        core: Core,
        effects: Effects,
        executor: Executor,
        subscription: SubscriptionSpec,
        positions: Mapping[tuple[str, str, int], int],
    ) -> None:
        spec = core.program.handler(subscription.service, subscription.handler)
        self._core = core
        self._effects = effects
        self._executor = executor
        self._subscription = subscription
        self._spec = spec
        self._context_class = CONTEXTS[spec.service_kind, spec.kind]
        self._function = spec.function
        serde = subscription.value if subscription.value is not None else spec.input
        self._decode = serde.decode
        self._quick_decode = quick_codec(serde)[1]
        self._setting = Setting.of(spec, self._identify, core.clock.now_ms, core.program.handler)
        self._slots = core.keys.services[spec.service]
        self._commits = core.commits
        self._positions = dict(positions)
        self._topic_ids: Mapping[str, str] = {}
        self._is_taking = False
        self._suspect: dict[tuple[str, str, int], int] = {}
        self._undecided: Record | None = None
        self.skipped = 0
        self._loop = HandlerLoop()
        self._session = Session(self._setting, "", 0, _NO_STATE, self._loop)
        self._context = self._context_class(self._session)
        self._has_fast_path = spec.kind in (HandlerKind.EXCLUSIVE, HandlerKind.SERVICE)
        self._is_plain = spec.kind is HandlerKind.EXCLUSIVE and subscription.key is None and spec.takes_input

    def take(self, records: Sequence[Record], topic_ids: Mapping[str, str]) -> None:
        """Decide these records, in their order.

        Raises:
            SubscriptionStoppedError: a record that its policy does not let pass; those before it are decided.
        """
        self._topic_ids = topic_ids
        self._session.started_ms = self._core.clock.now_ms()
        take = self._take_plain if self._is_plain else self._take_any
        moved: dict[tuple[str, str, int], int] = {}
        decided = 0
        outer = enter_loop(self._loop)
        self._is_taking = True
        self._session.root.enter()
        try:
            for run in _runs(records):
                first = run[0]
                place = (first.topic, topic_ids.get(first.topic, ""), first.partition)
                expected = moved.get(place, self._positions.get(place, -1))
                if first.offset < expected:
                    run = [record for record in run if record.offset >= expected]
                self._undecided = None
                try:
                    take(self._take_suspects(place, run) if self._core.trials.is_wary else run)
                finally:
                    if run:
                        undecided = self._undecided
                        moved[place] = run[-1].offset + 1 if undecided is None else undecided.offset
                        decided += len(run)
        finally:
            self._session.root.leave()
            self._is_taking = False
            leave_loop(outer)
            if decided:
                self._move(moved, decided)

    def begin(self, positions: dict[tuple[str, str, int], int]) -> None:
        """Keep where partitions begin that have no position yet."""
        if positions:
            self._move(positions, 0)
            self._core.kick()

    def _move(self, moved: dict[tuple[str, str, int], int], decided: int) -> None:
        """R1: the positions go into the batch that holds the effects."""
        commits = self._core.commits
        name = self._subscription.name
        self._positions.update(moved)
        for (topic, topic_id, partition), offset in moved.items():
            commits.batch.positions[name, topic, topic_id, partition] = offset
        commits.touch()
        commits.add_records(name, decided)

    def _take_plain(self, records: Sequence[Record]) -> None:
        """R1 for records of the plainest subscription: exclusive handler, the record's key as the key, a payload.

        Written for speed: here runs every event that only reads and writes state. Whatever is not plain about a record
        is left to `_decide`.
        """
        find, decode, function = self._slots.get, self._quick_decode, self._function
        batch, number = self._commits.batch, self._commits.number
        session, context = self._session, self._context
        run_at_once = session.run_at_once
        record = None
        try:
            for record in records:
                try:
                    key = record.key.decode()  # type: ignore[union-attr]  # no key: an exception, `_decide` says so
                    argument = decode(record.value)  # type: ignore[arg-type]  # a tombstone, likewise
                except Exception:  # noqa: BLE001  # as above
                    self._decide(record)
                else:
                    slot = find(key) or self._load(key, records)
                    if slot.holder is not None:
                        self._decide(record)
                    elif not run_at_once(function(context, argument), key, slot.values, record):
                        self._conclude(session, record, key, slot)
                    else:
                        changes = session.changes
                        if changes is not None:
                            slot.merge(changes, batch, number)
                        # Used again, unless somebody still holds on to the context.
                        if session.identity is None and getrefcount(context) == _CONTEXT_REFERENCES:
                            continue
                        self._discard()
                batch, number = self._commits.batch, self._commits.number
                session, context = self._session, self._context
                run_at_once = session.run_at_once
        except BaseException:
            self._undecided = record
            raise

    def _load(self, key: str, records: Sequence[Record]) -> KeySlot:
        """A key that is not in memory, and with it all such keys of these records, by one question to the store."""
        slots = self._slots
        missing = {key: None}
        for record in records:
            try:
                other = record.key.decode()  # type: ignore[union-attr]  # no key: it is not for us to say so
            except (AttributeError, UnicodeDecodeError):
                continue
            if other not in slots:
                missing[other] = None
        self._core.load_slots(self._spec.service, list(missing))
        return slots[key]

    def _take_suspects(self, place: tuple[str, str, int], records: Sequence[Record]) -> Sequence[Record]:
        """Take those that may have been taken before an unclean exit: durable before they run. The other ones."""
        left = self._suspect.get(place, self._subscription.max_in_flight + SUSPECTS_MORE)
        suspects, others = records[:left], records[left:]
        self._suspect[place] = left - len(suspects)
        for record in suspects:
            self._undecided = record
            self._decide(record, is_suspect=True)
        self._undecided = None
        return others

    def _take_any(self, records: Sequence[Record]) -> None:
        """R1 for records of any subscription."""
        for record in records:
            self._undecided = record
            self._decide(record)
        self._undecided = None

    def _decide(self, record: Record, is_suspect: bool = False) -> None:
        """R1 for one record."""
        try:
            key = self._key_of(record)
            argument = (self._argument_of(record.value),) if self._spec.takes_input else ()
        except Skipped:
            self.skipped += 1
            return
        except (SerdeError, UnicodeDecodeError) as error:
            if isinstance(self._subscription.policies.on_undecodable, Skip):
                self.skipped += 1
                return
            raise self._stopped(record, str(error), _UNDECODABLE) from error
        slot = self._core.slot_of(self._spec.service, key) if self._spec.is_keyed else None
        if is_suspect:
            self._core.trials.suspect(self._accept(record, key))
            return
        if not self._has_fast_path or (slot is not None and slot.holder is not None):
            self._accept(record, key)
            return
        values = slot.values if slot is not None else _NO_STATE
        self._session.run_at_once(self._function(self._context, *argument), key, values, record)
        self._conclude(self._session, record, key, slot)

    def _conclude(self, session: Session, record: Record, key: str, slot: KeySlot | None) -> None:
        """A first turn has ended, not in the plainest way."""
        outcome = session.outcome
        is_success = isinstance(outcome, Ended) and isinstance(outcome.outcome, Success)
        if not is_success or (session.effects is not None and not self._carry_out(session, session.effects)):
            self._keep(session, record, key, slot)
            return
        if session.changes is not None and slot is not None:
            slot.apply(session.changes, self._commits.batch, self._commits.number)
        context = self._context
        if (
            outcome is not ENDED_EMPTY
            or session.notes is None
            or session.identity is not None
            or getrefcount(context) != _CONTEXT_REFERENCES
        ):
            self._discard()

    def _carry_out(self, session: Session, effects: list[tuple[int, Command]]) -> bool:
        """The effects of a handler that ended in its first turn; False when one of them is impossible."""
        try:
            self._effects.check(effects)
        except UsageError:
            return False
        self._effects.apply(Sender(session.invocation_id, self._spec.service, session.key, None), effects)
        return True

    def _discard(self) -> None:
        """The handler has ended; the session cannot serve another one."""
        session = self._session
        self._renew()
        session.let_go()

    def _renew(self) -> None:
        """A session, a context and a loop that nobody has used."""
        is_current, started_ms = self._is_taking, self._session.started_ms
        if is_current:
            self._session.root.leave()
        self._loop = HandlerLoop()
        self._session = Session(self._setting, "", started_ms, _NO_STATE, self._loop)
        self._context = self._context_class(self._session)
        if is_current:
            enter_loop(self._loop)
            self._session.root.enter()

    def _argument_of(self, value: bytes | None) -> Any:
        if value is None:
            value = self._tombstone()
        try:
            return self._quick_decode(value)
        except Exception:  # noqa: BLE001  # whatever it was, `decode` says why
            return self._decode(value)

    def _keep(self, session: Session, record: Record, key: str, slot: KeySlot | None) -> None:
        """The first turn did not end it, or ended it badly: an invocation like any other from here on."""
        self._renew()
        inv = self._core.adopt_running(self._request(record, key, session.invocation_id), session, slot)
        self._executor.conclude(inv)
        self._executor.drop_if_asked(inv)

    def _accept(self, record: Record, key: str) -> str:
        otherwise = self._identity(record)
        invocation, is_identified = identity_of(self._spec, key, None, otherwise)
        self._core.accept(self._request(record, key, invocation, is_identified))
        return invocation

    def _request(self, record: Record, key: str, invocation: str, is_identified: bool = False) -> Request:
        origin = Origin(
            subscription=self._subscription.name,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp_ms,
            record_key=record.key,
            record_headers=list(record.headers),
            is_tombstone=record.value is None,
        )
        return Request(invocation, self._spec, key, record.value or b"", origin, None, is_identified)

    def _identity(self, record: Record) -> str:
        return record_identity(
            self._core.program.app,
            self._subscription.name,
            record.topic,
            self._topic_ids.get(record.topic, ""),
            record.partition,
            record.offset,
        )

    def _identify(self, session: Session) -> str:
        assert session.record is not None
        return self._identity(session.record)

    def _key_of(self, record: Record) -> str:
        if not self._spec.is_keyed:
            return ""
        extract = self._subscription.key
        if extract is not None:
            try:
                key = extract(record)
            except Exception as error:  # the user's function: whatever it raises refuses the record
                raise SerdeError(f"the key function at {self._subscription.site} raised {error!r}") from error
            if not isinstance(key, str):
                raise SerdeError(f"the key function at {self._subscription.site} gave {key!r}, not a string")
            return key
        if record.key is None:
            if isinstance(self._subscription.policies.on_null_key, Skip):
                raise Skipped
            raise self._stopped(record, "the record has no key, and its target needs one", _NULL_KEY)
        return record.key.decode()

    def _tombstone(self) -> bytes:
        if isinstance(self._subscription.policies.on_tombstone, Skip):
            raise Skipped
        return b""

    def _stopped(self, record: Record, reason: str, remedy: str) -> SubscriptionStoppedError:
        return SubscriptionStoppedError(
            f"subscription {self._subscription.name} stopped at {record.topic}, partition {record.partition}, "
            f"offset {record.offset}: {reason}. {remedy}"
        )


def _runs(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """The records in their order, cut where the partition changes, and where its offsets go back."""
    start, topic, partition, last = 0, "", -1, -1
    for place, record in enumerate(records):
        offset = record.offset
        if record.partition != partition or record.topic != topic or offset <= last:
            if place:
                yield records[start:place]
            start, topic, partition = place, record.topic, record.partition
        last = offset
    if records:
        yield records[start:]
