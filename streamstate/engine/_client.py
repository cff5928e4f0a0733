"""The client inside the engine's own process: typed by the handlers, no network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Generic, TypeVar, overload

from streamstate.context import error_of, milliseconds
from streamstate.definitions import HandlerSpec, KeyedHandler, UnkeyedHandler
from streamstate.engine._engine import Engine
from streamstate.errors import UsageError
from streamstate.journal import Failure, Outcome, Success
from streamstate.serde import serde_for

In = TypeVar("In")
Out = TypeVar("Out")

_MISSING: Any = object()
_ANY = serde_for(object)


class LocalInvocation(Generic[Out]):
    """An accepted invocation.

    Attributes:
        id: its id. is_new: False when an earlier one with the same identity was found.
    """

    def __init__(
        self,
        engine: Engine,
        invocation: str,
        is_new: bool,
        decode: Callable[[bytes], Any],
        ended: asyncio.Future[Outcome],
    ) -> None:
        self._engine = engine
        self._decode = decode
        self._ended = ended
        self.id = invocation
        self.is_new = is_new

    async def result(self) -> Out:
        """Its result.

        Raises:
            TerminalError: what it ended with.
            InvocationPausedError: it is paused.
        """
        return _value_of(await asyncio.shield(self._ended), self._decode)  # type: ignore[no-any-return]  # by its serde

    def cancel(self) -> bool:
        """Ask it to stop; False when it has ended."""
        return self._engine.operations.cancel(self.id)

    def kill(self) -> bool:
        """End it now; False when it has ended."""
        return self._engine.operations.kill(self.id)

    def resume(self) -> None:
        """Let it try again after a pause."""
        self._engine.operations.resume(self.id)


class LocalClient:
    """Calls handlers of a running engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @overload
    async def call(
        self,
        handler: UnkeyedHandler[None, Out],
        /,
        *,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Out: ...
    @overload
    async def call(
        self,
        handler: UnkeyedHandler[In, Out],
        arg: In,
        /,
        *,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Out: ...
    @overload
    async def call(
        self,
        handler: KeyedHandler[None, Out],
        /,
        *,
        key: str,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Out: ...
    @overload
    async def call(
        self,
        handler: KeyedHandler[In, Out],
        arg: In,
        /,
        *,
        key: str,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Out: ...
    async def call(
        self,
        handler: UnkeyedHandler[Any, Any] | KeyedHandler[Any, Any],
        arg: Any = _MISSING,
        /,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Request and response.

        Raises:
            TerminalError: what the handler ended with.
            InvocationPausedError: it is paused, or becomes so.
        """
        spec = handler.spec
        body = _body_of(spec, arg, key)
        outcome = await self._engine.call(spec, key or "", body, headers=headers, idempotency_key=idempotency_key)
        return _value_of(outcome, spec.output.decode)

    @overload
    async def send(
        self,
        handler: UnkeyedHandler[None, Out],
        /,
        *,
        delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> LocalInvocation[Out]: ...
    @overload
    async def send(
        self,
        handler: UnkeyedHandler[In, Out],
        arg: In,
        /,
        *,
        delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> LocalInvocation[Out]: ...
    @overload
    async def send(
        self,
        handler: KeyedHandler[None, Out],
        /,
        *,
        key: str,
        delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> LocalInvocation[Out]: ...
    @overload
    async def send(
        self,
        handler: KeyedHandler[In, Out],
        arg: In,
        /,
        *,
        key: str,
        delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> LocalInvocation[Out]: ...
    async def send(
        self,
        handler: UnkeyedHandler[Any, Any] | KeyedHandler[Any, Any],
        arg: Any = _MISSING,
        /,
        *,
        key: str | None = None,
        delay: timedelta | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> LocalInvocation[Any]:
        """One way; returns when the invocation is durable."""
        spec = handler.spec
        body = _body_of(spec, arg, key)
        invocation, is_new, ended = await self._engine.submit(
            spec,
            key or "",
            body,
            headers=headers,
            idempotency_key=idempotency_key,
            delay_ms=None if delay is None else milliseconds(delay, "delay"),
        )
        return LocalInvocation(self._engine, invocation, is_new, spec.output.decode, ended)

    def invocation(self, invocation: str, returns: type[Out] | None = None, /) -> LocalInvocation[Out]:
        """An invocation found by its id."""
        decode = _ANY.decode if returns is None else serde_for(returns).decode
        return LocalInvocation(self._engine, invocation, False, decode, self._engine.result(invocation))

    def resolve_awakeable(self, awakeable: str, value: Any = None, /) -> bool:
        """Complete an awakeable with a value, as JSON; False when nothing waits for it any more."""
        return self._engine.complete_awakeable(awakeable, Success(_ANY.encode(value)))

    def reject_awakeable(self, awakeable: str, reason: str, /) -> bool:
        """Complete an awakeable with a terminal failure; False when nothing waits for it any more."""
        return self._engine.complete_awakeable(awakeable, Failure(500, reason))


def _body_of(spec: HandlerSpec, arg: Any, key: str | None) -> bytes:
    if spec.is_keyed != isinstance(key, str):
        raise UsageError(f"{spec.target} {'takes key=…, a string' if spec.is_keyed else 'takes no key'}; got {key!r}")
    if spec.takes_input and arg is _MISSING:
        raise UsageError(f"{spec.target} takes a payload; pass it as the second argument")
    return spec.input.encode(arg) if spec.takes_input else b""


def _value_of(outcome: Outcome, decode: Callable[[bytes], Any]) -> Any:
    if isinstance(outcome, Failure):
        raise error_of(outcome)
    return None if outcome.value is None else decode(outcome.value)
