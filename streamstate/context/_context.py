"""The contexts: what a handler can ask for. One verb for one thing; everything awaitable is a future of its loop."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar, overload

from streamstate.context._actions import bind_action
from streamstate.context._durable import Awakeable, Invocation, Target, milliseconds, optional_decode
from streamstate.context._logging import InvocationLogger
from streamstate.context._session import Session
from streamstate.context._tasks import HandlerFuture
from streamstate.definitions import (
    KeyedHandler,
    Record,
    ServiceMarker,
    StateKey,
    Step,
    Topic,
    UnkeyedHandler,
)
from streamstate.journal import Command, Kind, Option, Success, awakeable_id, parse_awakeable_id, seed_of
from streamstate.serde import serde_for

P = ParamSpec("P")
T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")

_MISSING: Any = object()
_logger = logging.getLogger("streamstate.invocation")
_ANY = serde_for(object)
_ANY_KEY: StateKey[Any] = StateKey("any")
_TEXT = serde_for(list[str])
_MILLISECONDS = serde_for(int)


class Context(ServiceMarker):
    """What every handler can do."""

    __slots__ = ("_log", "_random", "_session")

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def invocation_id(self) -> str:
        return self._session.invocation_id

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the call or request; those of a record are in `record`."""
        return self._session.headers

    @property
    def record(self) -> Record | None:
        """The record that started this invocation, or None when it did not come from a topic."""
        return self._session.record

    @property
    def random(self) -> random.Random:
        """Random numbers that are the same on every attempt."""
        # Slots stay empty until they are used: a context is made for every event.
        if not hasattr(self, "_random"):
            self._random = random.Random(seed_of(self.invocation_id))
        return self._random

    def uuid(self) -> uuid.UUID:
        """A random UUID that is the same on every attempt; fit for an idempotency key of an outside service."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4)

    @property
    def log(self) -> InvocationLogger:
        """A logger that is silent on replay."""
        if not hasattr(self, "_log"):
            self._log = InvocationLogger(self._session)
        return self._log

    def time(self) -> HandlerFuture[datetime]:
        """The engine's clock, in UTC; the same on every attempt."""
        session = self._session
        return session.answer(
            Kind.TIME,
            "",
            lambda: Success(_MILLISECONDS.encode(session.setting.clock())),
            lambda raw: datetime.fromtimestamp(_MILLISECONDS.decode(raw or b"0") / 1000, UTC),
        )

    @overload
    def run(
        self, step: str | Step, action: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> HandlerFuture[T]: ...
    @overload
    def run(
        self, step: str | Step, action: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> HandlerFuture[T]: ...
    def run(self, step: str | Step, action: Callable[..., Any], /, *args: Any, **kwargs: Any) -> HandlerFuture[Any]:
        """Run a step: its result is journaled, and never computed again once it is.

        An async action runs on the application's loop, a sync one in its thread pool.

        Raises (when awaited):
            TerminalError: the action raised one, or the step's own retry policy is spent.
        """
        bound, decode = bind_action(step, action, args, kwargs)
        return self._session.issue(Command(Kind.RUN, bound.step.name), optional_decode(decode), bound)

    def sleep(self, duration: timedelta) -> HandlerFuture[None]:
        """A durable timer."""
        session = self._session
        future: HandlerFuture[None] = session.loop.create_future()
        timer = session.loop.call_later(milliseconds(duration, "ctx.sleep") / 1000, _wake, future)
        # Also of one that was cancelled: nobody waits for its timer then.
        future.add_done_callback(lambda _future: timer.cancel())
        return future

    @overload
    def call(
        self,
        handler: UnkeyedHandler[None, Out],
        /,
        *,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HandlerFuture[Out]: ...
    @overload
    def call(
        self,
        handler: UnkeyedHandler[In, Out],
        arg: In,
        /,
        *,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HandlerFuture[Out]: ...
    @overload
    def call(
        self,
        handler: KeyedHandler[None, Out],
        /,
        *,
        key: str,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HandlerFuture[Out]: ...
    @overload
    def call(
        self,
        handler: KeyedHandler[In, Out],
        arg: In,
        /,
        *,
        key: str,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HandlerFuture[Out]: ...
    def call(
        self,
        handler: UnkeyedHandler[Any, Any] | KeyedHandler[Any, Any],
        arg: Any = _MISSING,
        /,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HandlerFuture[Any]:
        """Request and response.

        Raises (when awaited):
            TerminalError: what the called handler ended with.
            CallCycleError: the call would wait for a key that its own callers hold.
        """
        target = Target.of(handler, arg, _MISSING, key)
        return self._session.issue(
            target.command(Kind.CALL, idempotency_key, headers), optional_decode(handler.spec.output.decode)
        )

    @overload
    def send(
        self,
        handler: UnkeyedHandler[None, Out],
        /,
        *,
        delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Invocation[Out]: ...
    @overload
    def send(
        self,
        handler: UnkeyedHandler[In, Out],
        arg: In,
        /,
        *,
        delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Invocation[Out]: ...
    @overload
    def send(
        self,
        handler: KeyedHandler[None, Out],
        /,
        *,
        key: str,
        delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Invocation[Out]: ...
    @overload
    def send(
        self,
        handler: KeyedHandler[In, Out],
        arg: In,
        /,
        *,
        key: str,
        delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Invocation[Out]: ...
    def send(
        self,
        handler: UnkeyedHandler[Any, Any] | KeyedHandler[Any, Any],
        arg: Any = _MISSING,
        /,
        *,
        key: str | None = None,
        delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Invocation[Any]:
        """One way; with a delay, the invocation reaches its key's queue when the delay has passed."""
        target = Target.of(handler, arg, _MISSING, key)
        return self._send(target, delay, idempotency_key, headers, handler.spec.output.decode)

    def call_by_name(  # noqa: PLR0913  # what `call` takes, and three in the place of the handler
        self,
        service: str,
        handler: str,
        arg: Any = _MISSING,
        /,
        *,
        key: str | None = None,
        returns: type[T],
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HandlerFuture[T]:
        """Like `call`, for a service that this program does not import; the argument is sent as JSON."""
        spec = self._session.setting.find(service, handler)
        target = Target.checked(spec, key, b"" if arg is _MISSING else _ANY.encode(arg))
        command = target.command(Kind.CALL, idempotency_key, headers)
        return self._session.issue(command, optional_decode(serde_for(returns).decode))

    def send_by_name(  # noqa: PLR0913  # likewise
        self,
        service: str,
        handler: str,
        arg: Any = _MISSING,
        /,
        *,
        key: str | None = None,
        delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Invocation[Any]:
        """Like `send`, for a service that this program does not import."""
        spec = self._session.setting.find(service, handler)
        target = Target.checked(spec, key, b"" if arg is _MISSING else _ANY.encode(arg))
        return self._send(target, delay, idempotency_key, headers, _ANY.decode)

    def _send(
        self,
        target: Target,
        delay: timedelta | None,
        idempotency_key: str | None,
        headers: Mapping[str, str] | None,
        decode: Callable[[bytes], Any],
    ) -> Invocation[Any]:
        session = self._session
        command = target.command(Kind.SEND, idempotency_key, headers, delay)
        index = session.next_index
        session.issue(command, optional_decode(decode))
        return Invocation(session, target.invocation(session.invocation_id, index, idempotency_key), decode)

    def invocation(self, invocation_id: str, /) -> Invocation[Any]:
        """Any invocation, by its id: to cancel, to signal, or to attach to."""
        return Invocation(self._session, invocation_id, _ANY.decode)

    def awakeable(self, returns: type[T], /) -> Awakeable[T]:
        """A future that the outside world completes by its `id`."""
        session = self._session
        index = session.next_index
        inner = session.issue(Command(Kind.AWAKEABLE), optional_decode(serde_for(returns).decode))
        return Awakeable.over(inner, awakeable_id(session.invocation_id, index))

    def resolve_awakeable(self, awakeable: str, value: Any = None, /) -> None:
        """Complete an awakeable with a value, sent as JSON. A second completion has no effect.

        Raises:
            UsageError: not the id of an awakeable.
        """
        parse_awakeable_id(awakeable)
        self._session.issue(Command(Kind.COMPLETE_AWAKEABLE, awakeable, body=_ANY.encode(value)), optional_decode(None))

    def reject_awakeable(self, awakeable: str, reason: str, /) -> None:
        """Complete an awakeable with a terminal failure."""
        parse_awakeable_id(awakeable)
        options: dict[str, Option] = {"reason": reason}
        self._session.issue(Command(Kind.COMPLETE_AWAKEABLE, awakeable, options=options), optional_decode(None))

    def signal(self, name: str, returns: type[T], /) -> HandlerFuture[T]:
        """The next signal of this name; one that came earlier counts."""
        return self._session.issue(Command(Kind.SIGNAL, name), optional_decode(serde_for(returns).decode))

    def publish(
        self,
        topic: Topic[T] | str,
        value: T | None,
        /,
        *,
        key: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HandlerFuture[None]:
        """Publish a message, exactly when this turn becomes durable. None is a tombstone; a plain name means JSON."""
        chosen: Topic[Any] = Topic(topic) if isinstance(topic, str) else topic
        options: dict[str, Option] = {}
        raw_key = chosen.encode_key(key)
        if chosen.cluster is not None:
            options["cluster"] = chosen.cluster
        if raw_key is not None:
            options["key"] = raw_key
        if headers:
            options["headers"] = dict(headers)
        body = chosen.encode_value(value)
        return self._session.issue(
            Command(Kind.PUBLISH, chosen.name, None, body, options or None), optional_decode(None)
        )


def _wake(future: HandlerFuture[None]) -> None:
    if not future.done():
        future.set_result(None)
