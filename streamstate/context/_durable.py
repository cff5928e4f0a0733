"""The durable things that verbs hand out: awakeables, promises, invocations; and the targets of calls and sends."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from datetime import timedelta
from typing import Any, Generic, NamedTuple, Self, TypeVar

from streamstate.context._session import Session
from streamstate.context._tasks import HandlerFuture
from streamstate.definitions import HandlerKind, HandlerSpec, KeyedHandler, UnkeyedHandler
from streamstate.errors import UsageError
from streamstate.journal import Command, Kind, Option, child_identity, keyed_identity, workflow_identity
from streamstate.serde import Serde, serde_for

T = TypeVar("T")
_ANY = serde_for(object)


def milliseconds(duration: timedelta, verb: str) -> int:
    """A duration in milliseconds.

    Raises:
        UsageError: a plain number (seconds or milliseconds?), or a negative duration.
    """
    if not isinstance(duration, timedelta):
        raise UsageError(f"{verb} takes a timedelta, got {duration!r}; write timedelta(seconds=…) or (milliseconds=…)")
    if duration < timedelta():
        raise UsageError(f"{verb} takes a duration of zero or more, got {duration}")
    return round(duration / timedelta(milliseconds=1))


def optional_decode(decode: Callable[[bytes], Any] | None) -> Callable[[bytes | None], Any]:
    """Decode what is there; nothing stays None."""

    def decoded(raw: bytes | None) -> Any:
        return None if raw is None or decode is None else decode(raw)

    return decoded


class Target(NamedTuple):
    """Who is called, and with what."""

    spec: HandlerSpec
    key: str | None
    body: bytes

    @classmethod
    def of(
        cls, handler: UnkeyedHandler[Any, Any] | KeyedHandler[Any, Any], arg: Any, missing: Any, key: str | None
    ) -> Self:
        if not isinstance(handler, (UnkeyedHandler, KeyedHandler)):
            raise UsageError(
                f"calls and sends take a handler, such as Driver.moved as it was declared; got {handler!r}. By the "
                "names of a service and its handler: ctx.call_by_name and ctx.send_by_name"
            )
        spec = handler.spec
        if spec.takes_input and arg is missing:
            raise UsageError(f"{spec.target} takes a payload; pass it as the second argument")
        if not spec.takes_input and arg is not missing and arg is not None:
            raise UsageError(f"{spec.target} takes no payload, got {arg!r}")
        return cls.checked(spec, key, spec.input.encode(arg) if spec.takes_input else b"")

    @classmethod
    def checked(cls, spec: HandlerSpec, key: str | None, body: bytes) -> Self:
        if spec.is_keyed and not isinstance(key, str):
            raise UsageError(f"{spec.target} is called with key=…, a string; got {key!r}")
        if not spec.is_keyed and key is not None:
            raise UsageError(f"{spec.target} belongs to a service and takes no key, got {key!r}")
        return cls(spec, key, body)

    def command(
        self,
        kind: str,
        idempotency_key: str | None,
        headers: Mapping[str, str] | None,
        delay: timedelta | None = None,
    ) -> Command:
        options: dict[str, Option] = {}
        if idempotency_key is not None:
            options["idempotency_key"] = idempotency_key
        if headers:
            options["headers"] = dict(headers)
        if delay is not None:
            options["delay_ms"] = milliseconds(delay, "delay")
        return Command(kind, f"{self.spec.service}/{self.spec.name}", self.key, self.body, options or None)

    def invocation(self, parent: str, index: int, idempotency_key: str | None) -> str:
        """The id of the invocation that this target gets from command `index` of `parent`."""
        if self.spec.kind is HandlerKind.WORKFLOW:
            return workflow_identity(self.spec.service, self.key or "")
        if idempotency_key is not None:
            return keyed_identity(self.spec.service, self.spec.name, self.key or "", idempotency_key)
        return child_identity(parent, index)


class Awakeable(HandlerFuture[T]):
    """A future that is completed from outside, by its id."""

    __slots__ = ("id",)
    id: str

    @classmethod
    def over(cls, inner: HandlerFuture[T], awakeable: str) -> Self:
        outer = cls(loop=inner.get_loop())
        outer.id = awakeable
        inner.add_done_callback(outer._copy)
        return outer

    def _copy(self, inner: Any) -> None:
        if self.done():
            return
        error = inner.exception()
        if error is None:
            self.set_result(inner.result())
        else:
            self.set_exception(error)


class DurablePromise(Generic[T]):
    """A promise of a workflow run. Awaiting it waits; the first completion wins."""

    __slots__ = ("_name", "_serde", "_session")

    def __init__(self, session: Session, name: str, serde: Serde[T]) -> None:
        self._session = session
        self._name = name
        self._serde = serde

    def __await__(self) -> Generator[Any, None, T]:
        return self.wait().__await__()

    def wait(self) -> HandlerFuture[T]:
        """The promise as a future, for asyncio's combinators."""
        return self._session.issue(Command(Kind.PROMISE, self._name), optional_decode(self._serde.decode))

    def peek(self) -> HandlerFuture[T | None]:
        """Its value if it is resolved, None if it is open.

        Raises (when awaited):
            TerminalError: it was rejected.
        """
        return self._session.issue(Command(Kind.PEEK_PROMISE, self._name), optional_decode(self._serde.decode))

    def resolve(self, value: T, /) -> None:
        """Complete it with a value; has no effect if it is completed already."""
        body = self._serde.encode(value)
        self._session.issue(Command(Kind.COMPLETE_PROMISE, self._name, body=body), optional_decode(None))

    def reject(self, reason: str, /) -> None:
        """Complete it with a terminal failure."""
        self._session.issue(
            Command(Kind.COMPLETE_PROMISE, self._name, options={"reason": reason}), optional_decode(None)
        )


class SignalSender:
    """A named signal of another invocation."""

    __slots__ = ("_invocation", "_name", "_session")

    def __init__(self, session: Session, invocation: str, name: str) -> None:
        self._session = session
        self._invocation = invocation
        self._name = name

    def resolve(self, value: Any = None, /) -> None:
        """Send the signal with a value, as JSON."""
        self._send(_ANY.encode(value), {})

    def reject(self, reason: str, /) -> None:
        """Send the signal as a terminal failure."""
        self._send(None, {"reason": reason})

    def _send(self, body: bytes | None, options: dict[str, Option]) -> None:
        options["invocation"] = self._invocation
        self._session.issue(Command(Kind.SEND_SIGNAL, self._name, None, body, options), optional_decode(None))


class Invocation(Generic[T]):
    """Another invocation, seen from a handler."""

    __slots__ = ("_decode", "_id", "_session")

    def __init__(self, session: Session, invocation: str, decode: Callable[[bytes], Any]) -> None:
        self._session = session
        self._id = invocation
        self._decode = decode

    def id(self) -> HandlerFuture[str]:
        """Its id."""
        future: HandlerFuture[str] = self._session.loop.create_future()
        future.set_result(self._id)
        return future

    def cancel(self) -> None:
        """Ask it to stop: it gets CancelledError at its next await."""
        self._session.issue(Command(Kind.CANCEL, self._id), optional_decode(None))

    def attach(self, returns: type[Any] | None = None, /) -> HandlerFuture[T]:
        """Wait for its result.

        Args:
            returns: the type of the result, where the invocation was found by its id.
        """
        decode = self._decode if returns is None else serde_for(returns).decode
        return self._session.issue(Command(Kind.ATTACH, self._id), optional_decode(decode))

    def signal(self, name: str, /) -> SignalSender:
        """A named signal of it."""
        return SignalSender(self._session, self._id, name)
