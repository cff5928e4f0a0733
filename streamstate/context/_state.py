"""The contexts of what has a key: reading and writing its state, and a workflow's promises."""

from __future__ import annotations

from typing import Any, TypeVar, overload

from streamstate.context._context import Context
from streamstate.context._durable import DurablePromise
from streamstate.context._tasks import HandlerFuture
from streamstate.context._texts import check_text
from streamstate.definitions import (
    DefaultedStateKey,
    ExclusiveMarker,
    ReadableKey,
    SharedMarker,
    StateKey,
    WorkflowMarker,
    WorkflowSharedMarker,
)
from streamstate.errors import UsageError
from streamstate.journal import Kind, Success
from streamstate.serde import serde_for

T = TypeVar("T")

_ANY = serde_for(object)
_ANY_KEY: StateKey[Any] = StateKey("any")
_TEXT = serde_for(list[str])


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
        try:
            return self._session.read(key.name, key)
        except AttributeError:
            if isinstance(key, str):
                return self._session.read(key, _ANY_KEY)
            _check_key(key, "ctx.get")
            raise

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
        try:
            name, encode = key.name, key.quick_encode  # type: ignore[union-attr]  # a plain name is the exception
            data = encode(value)
        except Exception:  # noqa: BLE001  # whatever it was, this says why
            name, data = _encoded(key, value)
        self._session.write(name, data)

    def clear(self, key: StateKey[Any] | str, /) -> None:
        """Remove a key of the state."""
        if not isinstance(key, str):
            _check_key(key, "ctx.clear")
            key = key.name
        self._session.erase(key)

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


def _encoded(key: StateKey[Any] | str, value: Any) -> tuple[str, bytes]:
    """The name and the bytes to set; refuses what is not a key, or not a value of it."""
    if isinstance(key, str):
        check_text(key, "the name of a state key")
        return key, _ANY.encode(value)
    _check_key(key, "ctx.set")
    return key.name, key.encode(value)


def _check_key(key: object, verb: str) -> None:
    if not isinstance(key, StateKey):
        raise UsageError(f'{verb} takes a key of the state, StateKey[int]("total") or a plain name; got {key!r}')
