"""Typed names of state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property
from types import NoneType
from typing import Any, Generic, TypeVar, overload
from uuid import UUID

from streamstate.definitions._annotations import LazyType
from streamstate.definitions._sites import user_site
from streamstate.errors import DefinitionError, SerdeError
from streamstate.serde import Serde, quick_codec

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_NO_DEFAULT: Any = object()

# What a handler cannot change by accident; a default of any other type is made anew at each use.
_IMMUTABLE = (bool, int, float, str, bytes, NoneType, Enum, Decimal, UUID, datetime, date, time, timedelta)


class ReadableKey(Generic[T_co]):
    """What `ctx.get` takes: covariant, so that a key of a T may be read where a T or None is wanted."""


class StateKey(ReadableKey[T], Generic[T]):
    """One named value of a virtual object's or workflow's state: `LAST_SEEN = StateKey[Location]("last_seen")`.

    Args:
        name: the name in the store.
        default: what `ctx.get` gives while nothing is set; without it, `ctx.get` gives None.
        serde: overrides the one picked from T.
        upgrade: turns bytes that T does not fit (an older shape) into bytes that it does.

    Without a T, the value is any JSON.

    Raises DefinitionError for an empty name.
    """

    name: str
    site: str
    upgrade: Callable[[bytes], bytes] | None
    _default: T
    _serde: Serde[T] | None
    _type: LazyType

    # Gives what is there while nothing is set; None gives None.
    missing: Callable[[], T] | None = None

    # Like `encode` and `decode`, but what they raise says little: then ask those. Plain attributes, which make
    # themselves at their first use: the interpreter looks up a cached property anew at each event.
    quick_encode: Callable[[T], bytes]
    quick_decode: Callable[[bytes], T]

    @overload
    def __new__(
        cls,
        name: str,
        *,
        default: T,
        serde: Serde[T] | None = None,
        upgrade: Callable[[bytes], bytes] | None = None,
    ) -> DefaultedStateKey[T]: ...
    @overload
    def __new__(
        cls, name: str, *, serde: Serde[T] | None = None, upgrade: Callable[[bytes], bytes] | None = None
    ) -> StateKey[T]: ...
    def __new__(
        cls,
        name: str,
        *,
        default: T = _NO_DEFAULT,
        serde: Serde[T] | None = None,
        upgrade: Callable[[bytes], bytes] | None = None,
    ) -> StateKey[T]:
        # All is done here: a type checker that sees an __init__ as well does not look at the overloads of __new__.
        self = super().__new__(cls if default is _NO_DEFAULT else DefaultedStateKey)
        self.site = user_site()
        if not isinstance(name, str) or not name or not name.isprintable():
            raise DefinitionError(f"a state key needs a name, of printable characters, got {name!r} — at {self.site}")
        self.name = name
        self.upgrade = upgrade
        self._default = default
        self._serde = serde
        self._type = LazyType()
        if default is not _NO_DEFAULT:
            self.missing = self._fresh_default
        self.quick_encode = self._first_encode
        self.quick_decode = self._first_decode
        return self

    @cached_property
    def serde(self) -> Serde[T]:
        """Picked from T at the first use. Raises DefinitionError if nothing can carry T."""
        if self._serde is not None:
            return self._serde
        try:
            return self._type.serde_of(self)
        except (NameError, SerdeError) as error:
            raise DefinitionError(f"state key {self.name!r}: {error} — at {self.site}") from error

    @cached_property
    def encode(self) -> Callable[[T], bytes]:
        """The bytes of a value; raises SerdeError if it has none."""
        return self.serde.encode

    @cached_property
    def decode(self) -> Callable[[bytes], T]:
        """The value of bytes, upgraded if need be; raises SerdeError if they do not fit even so."""
        decode, upgrade = self.serde.decode, self.upgrade
        if upgrade is None:
            return decode

        def decode_or_upgrade(data: bytes, /) -> T:
            try:
                return decode(data)
            except SerdeError:
                return decode(upgrade(data))

        return decode_or_upgrade

    def decode_optional(self, data: bytes | None) -> T | None:
        """Like `decode`, with None or the default for what is not there."""
        if data is not None:
            return self.decode(data)
        return None if self.missing is None else self.missing()

    def _first_encode(self, value: T) -> bytes:
        self.quick_encode = quick_codec(self.serde)[0]
        return self.quick_encode(value)

    def _first_decode(self, data: bytes) -> T:
        self.quick_decode = quick_codec(self.serde)[1]
        return self.quick_decode(data)

    def _fresh_default(self) -> T:
        return self._default if isinstance(self._default, _IMMUTABLE) else self.serde.decode(self._default_bytes)

    @cached_property
    def _default_bytes(self) -> bytes:
        return self.encode(self._default)

    def __repr__(self) -> str:
        return f"StateKey({self.name!r})"


class DefaultedStateKey(StateKey[T]):
    """A state key with a default: made by `StateKey[int]("count", default=0)`."""

    @property
    def default(self) -> T:
        """What is there while nothing is set; a new value each time where values can be changed."""
        return self._fresh_default()
