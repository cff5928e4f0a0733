"""The fast path: records of one subscription, decided one after the other.

R1  Every record is decided when its turn comes: it ended, or it is durable with the batch as an invocation. So the
    source position is always behind the last record looked at, and in the same batch as the effects (I2, I10).
R2  An event whose key is busy waits in the key's queue; it never holds back its partition.
R3  A handler that ends in its first turn leaves nothing but its effects: no row, no journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sys import getrefcount
from typing import Any, NoReturn

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
        self.skipped = 0
        self._loop = HandlerLoop()
        self._session = Session(self._setting, "", 0, _NO_STATE, self._loop)
        self._context = self._context_class(self._session)
        self._has_fast_path = spec.kind in (HandlerKind.EXCLUSIVE, HandlerKind.SERVICE)
        is_plain = spec.kind is HandlerKind.EXCLUSIVE and subscription.key is None and spec.takes_input
        self._decide_one = self._decide_plain if is_plain else self._decide

    def take(self, records: Sequence[Record], topic_ids: Mapping[str, str]) -> None:
        """Decide these records, in their order.

        Raises:
            SubscriptionStoppedError: a record that its policy does not let pass; those before it are decided.
        """
        core = self._core
        self._topic_ids = topic_ids
        started_ms = core.clock.now_ms()
        decide = self._decide_one
        decided = 0
        moved: dict[tuple[str, str, int], int] = {}
        place: tuple[str, str, int] | None = None
        topic, partition, expected = "", -1, 0
        outer = enter_loop(self._loop)
        self._is_taking = True
        self._session.root.enter()
        try:
            for record in records:
                if record.partition != partition or record.topic != topic:
                    if place is not None:
                        moved[place] = expected
                    topic, partition = record.topic, record.partition
                    place = (topic, topic_ids.get(topic, ""), partition)
                    expected = moved.get(place, self._positions.get(place, -1))
                offset = record.offset
                if offset < expected:
                    continue
                try:
                    decide(record, started_ms)
                except Skipped:
                    self.skipped += 1
                expected = offset + 1
                decided += 1
        finally:
            self._session.root.leave()
            self._is_taking = False
            leave_loop(outer)
            if place is not None:
                moved[place] = expected
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

    def _decide_plain(self, record: Record, started_ms: int) -> None:
        """R1 for a record of the plainest subscription: exclusive handler, the record's key as the key, a payload.

        Written for speed; whatever is not plain about the record is left to `_decide`.
        """
        try:
            key = record.key.decode()  # type: ignore[union-attr]  # no key: an exception, and `_decide` says so
            argument = self._quick_decode(record.value)  # type: ignore[arg-type]  # a tombstone, likewise
            slot = self._slots[key]
        except Exception:  # noqa: BLE001  # not plain, or the first event of its key
            self._decide(record, started_ms)
            return
        if slot.holder is not None:
            self._decide(record, started_ms)
            return
        session, context = self._session, self._context
        handler = self._function(context, argument)
        if not session.run_at_once(handler, key, started_ms, slot.values, record) or session.effects is not None:
            self._conclude(session, record, key, slot)
            return
        changes = session.changes
        if changes is not None:
            commits = self._commits
            slot.apply(changes, commits.batch, commits.number)
        # Used again, unless the handler did more than read and write, or somebody still holds on to the context.
        if session.notes is None or session.identity is not None or getrefcount(context) != _CONTEXT_REFERENCES:
            self._renew()

    def _decide(self, record: Record, started_ms: int) -> None:
        """R1 for one record."""
        try:
            key = self._key_of(record)
            argument = (self._argument_of(record.value),) if self._spec.takes_input else ()
        except (SerdeError, UnicodeDecodeError) as error:
            self._refuse(record, error)
        slot = self._core.slot_of(self._spec.service, key) if self._spec.is_keyed else None
        if not self._has_fast_path or (slot is not None and slot.holder is not None):
            self._accept(record, key)
            return
        values = slot.values if slot is not None else _NO_STATE
        self._session.run_at_once(self._function(self._context, *argument), key, started_ms, values, record)
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
            self._renew()

    def _carry_out(self, session: Session, effects: list[tuple[int, Command]]) -> bool:
        """The effects of a handler that ended in its first turn; False when one of them is impossible."""
        try:
            self._effects.check(effects)
        except UsageError:
            return False
        self._effects.apply(Sender(session.invocation_id, self._spec.service, session.key, None), effects)
        return True

    def _renew(self) -> None:
        """A session, a context and a loop that nobody has used."""
        is_current = self._is_taking
        if is_current:
            self._session.root.leave()
        self._loop = HandlerLoop()
        self._session = Session(self._setting, "", 0, _NO_STATE, self._loop)
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

    def _accept(self, record: Record, key: str) -> None:
        otherwise = self._identity(record)
        invocation, is_identified = identity_of(self._spec, key, None, otherwise)
        self._core.accept(self._request(record, key, invocation, is_identified))

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

    def _refuse(self, record: Record, error: Exception) -> NoReturn:
        if isinstance(self._subscription.policies.on_undecodable, Skip):
            raise Skipped from error
        raise self._stopped(record, str(error), _UNDECODABLE) from error

    def _stopped(self, record: Record, reason: str, remedy: str) -> SubscriptionStoppedError:
        return SubscriptionStoppedError(
            f"subscription {self._subscription.name} stopped at {record.topic}, partition {record.partition}, "
            f"offset {record.offset}: {reason}. {remedy}"
        )
