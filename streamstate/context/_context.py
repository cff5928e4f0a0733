"""The contexts: what a handler can ask for. One verb for one thing; everything awaitable is a future of its loop."""

from __future__ import annotations

import functools
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints, overload

from streamstate.context._durable import Awakeable, DurablePromise, Invocation, Target, milliseconds, optional_decode
from streamstate.context._session import Session
from streamstate.context._tasks import HandlerFuture
from streamstate.context._turns import Action
from streamstate.definitions import (
    DefaultedStateKey,
    ExclusiveMarker,
    KeyedHandler,
    ReadableKey,
    Record,
    ServiceMarker,
    SharedMarker,
    StateKey,
    Step,
    Topic,
    UnkeyedHandler,
    WorkflowMarker,
    WorkflowSharedMarker,
)
from streamstate.errors import UsageError
from streamstate.journal import Command, Kind, Option, Success, awakeable_id, parse_awakeable_id, seed_of
from streamstate.serde import Serde, serde_for

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


class InvocationLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds invocation, target and attempt to every record; silent while the journal is replayed."""

    def __init__(self, session: Session) -> None:
        super().__init__(_logger, {})
        self._session = session
        self._invocation = session.invocation_id

    def isEnabledFor(self, level: int) -> bool:
        return not self._session.is_replaying and self.logger.isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        session = self._session
        own = {
            "invocation_id": self._invocation,
            "target": session.setting.spec.target,
            "object_key": session.key,
            "attempt": session.attempt,
        }
        kwargs["extra"] = {**own, **kwargs.get("extra", {})}
        return msg, kwargs


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
    def run(self, step: str | Step, action: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> HandlerFuture[T]: ...
    def run(self, step: str | Step, action: Callable[..., Any], /, *args: Any, **kwargs: Any) -> HandlerFuture[Any]:
        """Run a step: its result is journaled, and never computed again once it is.

        An async action runs on the application's loop, a sync one in its thread pool.

        Raises (when awaited):
            TerminalError: the action raised one, or the step's own retry policy is spent.
        """
        chosen = Step(step) if isinstance(step, str) else step
        if not callable(action):
            raise UsageError(
                f"ctx.run({chosen.name!r}, …) takes a function and its arguments, got {action!r}; "
                "write ctx.run(name, action, argument), not ctx.run(name, action(argument))"
            )
        serde = chosen.serde or _step_serde(action)
        bound = Action(chosen, action, args, kwargs, serde.encode)
        return self._session.issue(Command(Kind.RUN, chosen.name), optional_decode(serde.decode), bound)

    def sleep(self, duration: timedelta) -> HandlerFuture[None]:
        """A durable timer."""
        session = self._session
        future: HandlerFuture[None] = session.loop.create_future()
        session.loop.call_later(milliseconds(duration, "ctx.sleep") / 1000, _wake, future)
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

    def call_by_name(
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

    def send_by_name(
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
        return self._session.issue(Command(Kind.PUBLISH, chosen.name, None, body, options or None), optional_decode(None))


class _StateReader(Context):
    """Reading the state of an object or a workflow."""

    __slots__ = ()

    @property
    def key(self) -> str:
        return self._session.key

    @overload
    def get(self, key: DefaultedStateKey[T], /) -> HandlerFuture[T]: ...
    @overload
    def get(self, key: ReadableKey[T], /) -> HandlerFuture[T | None]: ...
    @overload
    def get(self, key: str, /) -> HandlerFuture[Any]: ...
    def get(self, key: Any, /) -> Any:
        """The value of a key of the state; None, or the key's default, where there is none.

        Raises (when awaited):
            SerdeError: the stored bytes are not of the key's type, and no `upgrade` mends them.
        """
        if isinstance(key, str):
            return self._session.read(key, _ANY_KEY)
        return self._session.read(key.name, key)

    def state_keys(self) -> HandlerFuture[list[str]]:
        """The names that have a value, sorted."""
        session = self._session
        return session.answer(
            Kind.STATE_KEYS,
            "",
            lambda: Success(_TEXT.encode(session.state_names())),
            lambda raw: _TEXT.decode(raw or b"[]"),
        )


class _StateWriter(_StateReader):
    """Writing the state of an object or a workflow."""

    __slots__ = ()

    def set(self, key: StateKey[T] | str, value: T, /) -> None:
        """Set a key of the state; visible to others when this turn ends."""
        if isinstance(key, str):
            self._session.write(key, _ANY.encode(value))
            return
        try:
            data = key.quick_encode(value)
        except Exception:  # noqa: BLE001  # whatever it was, `encode` says why
            data = key.encode(value)
        self._session.write(key.name, data)

    def clear(self, key: StateKey[Any] | str, /) -> None:
        """Remove a key of the state."""
        self._session.erase(key if isinstance(key, str) else key.name)

    def clear_all(self) -> None:
        """Remove the whole state."""
        self._session.clear_all()


class _Promises(_StateReader):
    __slots__ = ()

    def promise(self, name: str, returns: type[T], /) -> DurablePromise[T]:
        """A durable promise of this workflow run, shared by its handlers."""
        return DurablePromise(self._session, name, serde_for(returns))


class ObjectSharedContext(_StateReader, SharedMarker):
    """For shared handlers of a virtual object: they run beside others and cannot write."""

    __slots__ = ()


class ObjectContext(_StateWriter, ObjectSharedContext, ExclusiveMarker):
    """For exclusive handlers of a virtual object: alone on their key."""

    __slots__ = ()


class WorkflowSharedContext(_Promises, WorkflowSharedMarker):
    """For shared handlers of a workflow."""

    __slots__ = ()


class WorkflowContext(_StateWriter, WorkflowSharedContext, WorkflowMarker):
    """For the main handler of a workflow: runs once per key."""

    __slots__ = ()


def _wake(future: HandlerFuture[None]) -> None:
    if not future.done():
        future.set_result(None)


def _step_serde(action: Callable[..., Any]) -> Serde[Any]:
    """The serde of what an action returns, from its annotation; JSON of any value without one."""
    function = action.func if isinstance(action, functools.partial) else action
    function = getattr(function, "__func__", function)
    if "return" not in getattr(function, "__annotations__", ()):
        return _ANY
    return _annotated_serde(function)


@functools.lru_cache(maxsize=1024)
def _annotated_serde(function: Callable[..., Any]) -> Serde[Any]:
    try:
        returned = get_type_hints(function)["return"]
    except NameError:
        # Names that only a type checker sees; the value itself still has to fit JSON.
        return _ANY
    if get_origin(returned) in (Awaitable, Coroutine):
        returned = get_args(returned)[-1]
    return serde_for(returned)
