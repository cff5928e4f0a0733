"""What the commands of a turn do: from the journal's words to rows of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from streamstate.definitions import HandlerKind, HandlerSpec
from streamstate.engine._core import Core, Request
from streamstate.engine._keys import Live
from streamstate.errors import UsageError
from streamstate.journal import (
    Command,
    Completion,
    Failure,
    Kind,
    Outcome,
    SignalArrived,
    Success,
    child_identity,
    keyed_identity,
    workflow_identity,
)
from streamstate.storage import Origin, OutboxMessage, Status, TimerRow

_GONE = Failure(404, "no such invocation: it never was, or what it left is past its retention")


class Sender(NamedTuple):
    """Whose commands these are: its id, its key, and the invocation in memory unless it ended in its first turn."""

    id: str
    service: str
    key: str
    live: Live | None


class Effects:
    """Carries out the commands of turns."""

    def __init__(self, core: Core, cancel: Callable[[str], object]) -> None:
        self._core = core
        self._cancel = cancel
        self._table: dict[str, Callable[[Sender, int, Command], None]] = {
            Kind.RUN: self._run,
            Kind.GET: self._put_off,
            Kind.SLEEP: self._sleep,
            Kind.CALL: self._call,
            Kind.SEND: self._send,
            Kind.COMPLETE_AWAKEABLE: self._complete_awakeable,
            Kind.PROMISE: self._promise,
            Kind.PEEK_PROMISE: self._peek,
            Kind.COMPLETE_PROMISE: self._complete_promise,
            Kind.SEND_SIGNAL: self._signal,
            Kind.PUBLISH: self._publish,
            Kind.ATTACH: self._attach,
            Kind.CANCEL: self._stop,
        }

    def apply(self, sender: Sender, effects: list[tuple[int, Command]]) -> None:
        """Put into the batch what the commands do, in their order."""
        self._core.commits.touch()
        for index, command in effects:
            effect = self._table.get(command.kind)
            if effect is not None:
                effect(sender, index, command)

    def check(self, effects: list[tuple[int, Command]]) -> None:
        """Refuse what cannot be carried out, before any of it is.

        Raises:
            UsageError: a topic without a cluster.
        """
        for _index, command in effects:
            if command.kind == Kind.PUBLISH:
                self.cluster_of(command)

    def complete_promise(self, service: str, key: str, name: str, outcome: Outcome) -> bool:
        """Complete a promise; False when it was completed before."""
        core = self._core
        promise = (service, key, name)
        if core.waits.promise(promise) is not None:
            return False
        core.waits.set_promise(promise, outcome)
        for invocation, index in core.waits.take_waiters(promise_topic(promise)):
            core.arrive(invocation, Completion(index, outcome, core.clock.now_ms()))
        return True

    def cluster_of(self, command: Command) -> str:
        """The cluster that a message goes to.

        Raises:
            UsageError: none is there, or several are and the topic does not say which.
        """
        clusters = self._core.outbox.relays
        named = (command.options or {}).get("cluster")
        if named is not None:
            if named not in clusters:
                raise UsageError(f"topic {command.name!r} is on cluster {named!r}; the App has {_listed(clusters)}")
            return str(named)
        if len(clusters) != 1:
            raise UsageError(
                f"topic {command.name!r} names no cluster and the App has {_listed(clusters)}; "
                "write Topic(…, cluster=…), or give the App a connector"
            )
        return next(iter(clusters))

    def _run(self, sender: Sender, index: int, _command: Command) -> None:
        if sender.live is not None:
            self._core.commits.releases.steps.append((sender.live, index))

    def _put_off(self, sender: Sender, index: int, command: Command) -> None:
        if sender.live is not None:
            self._core.commits.releases.reads.append((sender.live, index, command.name))

    def _sleep(self, sender: Sender, index: int, command: Command) -> None:
        if sender.live is not None:
            wake_ms = (command.options or {})["wake_ms"]
            assert isinstance(wake_ms, int)
            self._core.add_timer(TimerRow(wake_ms, sender.id, "sleep", index))

    def _call(self, sender: Sender, index: int, command: Command) -> None:
        if sender.live is None:
            self._send(sender, index, command)
            return
        request = self._request(sender, index, command, caller=sender.id, caller_index=index)
        cycle = self._core.waits.find_cycle(request.spec, request.key, sender.live)
        if cycle is not None:
            self._core.arrive(sender.id, Completion(index, cycle, self._core.clock.now_ms()))
            return
        existing = self._core.accept(request)
        if existing is None:
            return
        if request.spec.kind is HandlerKind.WORKFLOW:
            failure = already_started(request.spec, request.key, request.id)
            self._core.arrive(sender.id, Completion(index, failure, self._core.clock.now_ms()))
        else:
            self._await_end(sender.id, index, request.id)

    def _send(self, sender: Sender, index: int, command: Command) -> None:
        self._core.accept(self._request(sender, index, command))

    def _request(
        self, sender: Sender, index: int, command: Command, caller: str = "", caller_index: int = -1
    ) -> Request:
        core = self._core
        service, _, handler = command.name.partition("/")
        spec = core.program.handler(service, handler)
        options = command.options or {}
        key = command.key or ""
        idempotency_key = options.get("idempotency_key")
        headers = options.get("headers", {})
        delay_ms = options.get("delay_ms")
        assert isinstance(headers, dict)
        assert delay_ms is None or isinstance(delay_ms, int)
        invocation, is_identified = identity_of(
            spec, key, None if idempotency_key is None else str(idempotency_key), child_identity(sender.id, index)
        )
        return Request(
            id=invocation,
            spec=spec,
            key=key,
            body=command.body or b"",
            origin=Origin(headers=headers, caller=caller, caller_index=caller_index),
            idempotency_key=None if idempotency_key is None else str(idempotency_key),
            is_identified=is_identified,
            due_ms=None if delay_ms is None else core.clock.now_ms() + delay_ms,
        )

    def _complete_awakeable(self, _sender: Sender, _index: int, command: Command) -> None:
        self._core.waits.complete_awakeable(command.name, _outcome_of(command))

    def _promise(self, sender: Sender, index: int, command: Command) -> None:
        if sender.live is None:
            return
        promise = (sender.service, sender.key, command.name)
        outcome = self._core.waits.promise(promise)
        if outcome is None:
            self._core.waits.add_waiter(promise_topic(promise), sender.id, index)
        else:
            self._core.arrive(sender.id, Completion(index, outcome, self._core.clock.now_ms()))

    def _peek(self, sender: Sender, index: int, command: Command) -> None:
        if sender.live is not None:
            outcome = self._core.waits.promise((sender.service, sender.key, command.name)) or Success(None)
            self._core.arrive(sender.id, Completion(index, outcome, self._core.clock.now_ms()))

    def _complete_promise(self, sender: Sender, _index: int, command: Command) -> None:
        self.complete_promise(sender.service, sender.key, command.name, _outcome_of(command))

    def _signal(self, _sender: Sender, _index: int, command: Command) -> None:
        invocation = str((command.options or {})["invocation"])
        self._core.arrive(invocation, SignalArrived(command.name, _outcome_of(command), self._core.clock.now_ms()))

    def _publish(self, sender: Sender, index: int, command: Command) -> None:
        options = command.options or {}
        key = options.get("key")
        headers = options.get("headers", {})
        assert key is None or isinstance(key, bytes)
        assert isinstance(headers, dict)
        message = OutboxMessage(
            position=self._core.outbox.next_position(),
            cluster=self.cluster_of(command),
            topic=command.name,
            key=key,
            value=command.body,
            headers=tuple((name, value.encode()) for name, value in headers.items()),
            message_id=f"{sender.id}/{index}",
        )
        self._core.commits.batch.outbox.append(message)

    def _stop(self, _sender: Sender, _index: int, command: Command) -> None:
        self._cancel(command.name)

    def _attach(self, sender: Sender, index: int, command: Command) -> None:
        if sender.live is not None:
            self._await_end(sender.id, index, command.name)

    def _await_end(self, waiter: str, index: int, invocation: str) -> None:
        """The waiter's command gets the outcome of an invocation, now or when it ends."""
        core = self._core
        row = core.find_row(invocation)
        if row is not None and row.status is not Status.COMPLETED:
            core.waits.add_waiter(invocation, waiter, index)
            return
        outcome = _GONE if row is None else (row.failure or Success(row.result))
        core.arrive(waiter, Completion(index, outcome, core.clock.now_ms()))


def identity_of(spec: HandlerSpec, key: str, idempotency_key: str | None, otherwise: str) -> tuple[str, bool]:
    """The id of an invocation of this target, and whether it may be there already."""
    if spec.kind is HandlerKind.WORKFLOW:
        return workflow_identity(spec.service, key), True
    if idempotency_key is not None:
        return keyed_identity(spec.service, spec.name, key, idempotency_key), True
    return otherwise, False


def already_started(spec: HandlerSpec, key: str, invocation: str) -> Failure:
    """Why a workflow key cannot be called a second time."""
    return Failure(409, f"{spec.target} has already been started for key {key!r}; attach to {invocation}")


def _outcome_of(command: Command) -> Outcome:
    reason = (command.options or {}).get("reason")
    return Success(command.body) if reason is None else Failure(500, str(reason))


def promise_topic(promise: tuple[str, str, str]) -> str:
    service, key, name = promise
    return f"promise:{service}/{len(key)}:{key}/{name}"


def _listed(names: object) -> str:
    listed = ", ".join(repr(name) for name in names) if isinstance(names, dict) else ""
    return f"the clusters {listed}" if listed else "no connector"
