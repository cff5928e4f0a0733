"""The fast path: records of one subscription, decided one after the other.

R1  Every record is decided when its turn comes: it ended, or it is durable with the batch as an invocation. So the source
    position is always the record behind the last one looked at, and it is in the same batch as the effects (I2, I10).
R2  An event whose key is busy waits in the key's queue; it never holds back its partition.
R3  A handler that ends in its first turn leaves nothing but its effects: no row, no journal.
"""

from __future__ import annotations

from asyncio import _get_running_loop, _set_running_loop
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from streamstate.context import Ended, HandlerLoop, Input, Session
from streamstate.definitions import HandlerKind, Record, Skip, SubscriptionSpec
from streamstate.engine._core import Core, Request
from streamstate.engine._effects import Effects, Sender, identity_of
from streamstate.engine._executor import CONTEXTS, Executor
from streamstate.engine._keys import KeySlot
from streamstate.errors import SerdeError, SubscriptionStoppedError, UsageError
from streamstate.journal import Machine, Success, record_identity
from streamstate.storage import Origin

_NO_HEADERS: Mapping[str, str] = {}
_NO_STATE: Mapping[str, bytes] = {}


class Skipped(Exception):  # noqa: N818  # a decision, not an error
    """The subscription's policy drops the record."""


class Intake:
    """Takes in the records of one subscription.

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
        self._context = CONTEXTS[spec.service_kind, spec.kind]
        self._decode = subscription.value.decode if subscription.value is not None else spec.input.decode
        self._decode_later = self._decode if spec.takes_input else None
        self._positions = dict(positions)
        self._topic_ids: Mapping[str, str] = {}
        self._loop = HandlerLoop()
        self._has_fast_path = spec.kind in (HandlerKind.EXCLUSIVE, HandlerKind.SERVICE)

    def take(self, records: Sequence[Record], topic_ids: Mapping[str, str]) -> None:
        """Decide these records, in their order.

        Raises:
            SubscriptionStoppedError: a record that its policy does not let pass; those before it are decided.
        """
        core = self._core
        self._topic_ids = topic_ids
        started_ms = core.clock.now_ms()
        decided = 0
        moved: dict[tuple[str, str, int], int] = {}
        place: tuple[str, str, int] | None = None
        topic, partition, expected = "", -1, 0
        outer = _get_running_loop()
        _set_running_loop(self._loop)
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
                    self._decide(record, started_ms)
                except Skipped:
                    pass
                expected = offset + 1
                decided += 1
        finally:
            _set_running_loop(outer)
            if place is not None:
                moved[place] = expected
            if decided:
                self._move(moved, decided)

    def _move(self, moved: dict[tuple[str, str, int], int], decided: int) -> None:
        """R1: the positions go into the batch that holds the effects."""
        commits = self._core.commits
        name = self._subscription.name
        self._positions.update(moved)
        for (topic, topic_id, partition), offset in moved.items():
            commits.batch.positions[name, topic, topic_id, partition] = offset
        commits.touch()
        commits.releases.records += decided
        commits.records_ahead += decided

    def _decide(self, record: Record, started_ms: int) -> None:
        spec = self._spec
        try:
            key = self._key_of(record) if spec.is_keyed else ""
            argument = self._argument_of(record) if spec.takes_input else None
        except (SerdeError, UnicodeDecodeError) as error:
            self._refuse(record, error)
        if not self._has_fast_path:
            self._accept(record, key)
            return
        slot = None
        if spec.is_keyed:
            slot = self._core.keys.find(spec.service, key) or self._core.slot_of(spec.service, key)
            if slot.holder is not None:
                self._accept(record, key)
                return
        self._run(record, key, argument, slot, started_ms)

    def _run(self, record: Record, key: str, argument: Any, slot: KeySlot | None, started_ms: int) -> None:
        core, spec = self._core, self._spec
        given = Input(
            spec,
            key,
            record.value or b"",
            self._decode_later,
            _NO_HEADERS,
            record,
            self._identify,
            core.clock.now_ms,
            started_ms,
            0,
            core.program.handler,
        )
        session = Session(given, slot.values if slot is not None else _NO_STATE, Machine(), self._loop)
        session.start(self._context(session), argument)
        outcome = session.outcome
        if type(outcome) is not Ended or type(outcome.outcome) is not Success or not self._loop.reset():
            self._keep(session, record, key, slot)
            return
        changes, effects, _timers = session.take_turn()
        if effects is not None:
            try:
                self._effects.check(effects)
            except UsageError:
                self._keep(session, record, key, slot)
                return
        if changes is not None and slot is not None:
            slot.apply(changes, core.commits.batch, core.commits.number)
        if effects is not None:
            self._effects.apply(Sender(session.invocation_id, spec.service, key, None), effects)

    def _keep(self, session: Session, record: Record, key: str, slot: KeySlot | None) -> None:
        """The first turn did not end it, or ended it badly: an invocation like any other from here on."""
        self._loop = HandlerLoop()
        _set_running_loop(self._loop)
        inv = self._core.adopt_running(self._request(record, key, session.invocation_id), session, slot)
        self._executor.conclude(inv)

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

    def _identify(self, given: Input) -> str:
        assert given.record is not None
        return self._identity(given.record)

    def _key_of(self, record: Record) -> str:
        extract = self._subscription.key
        if extract is not None:
            key = extract(record)
            if not isinstance(key, str):
                raise SerdeError(f"the key function at {self._subscription.site} gave {key!r}, not a string")
            return key
        if record.key is None:
            if isinstance(self._subscription.policies.on_null_key, Skip):
                raise Skipped
            raise self._stopped(record, "the record has no key, and its target is keyed", "on_null_key=Skip()")
        return record.key.decode()

    def _argument_of(self, record: Record) -> Any:
        value = record.value
        if value is None:
            if isinstance(self._subscription.policies.on_tombstone, Skip):
                raise Skipped
            value = b""
        return self._decode(value)

    def _refuse(self, record: Record, error: Exception) -> NoReturn:
        if isinstance(self._subscription.policies.on_undecodable, Skip):
            raise Skipped from error
        raise self._stopped(record, str(error), "on_undecodable=Skip()") from error

    def _stopped(self, record: Record, reason: str, remedy: str) -> SubscriptionStoppedError:
        return SubscriptionStoppedError(
            f"subscription {self._subscription.name} stopped at {record.topic}, partition {record.partition}, "
            f"offset {record.offset}: {reason}. Correct the handler's payload type, or let such records pass with "
            f"@subscribe(…, {remedy})"
        )

