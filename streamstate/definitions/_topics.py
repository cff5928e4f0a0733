"""Typed names of topics to publish to."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Generic, TypeVar

from streamstate.definitions._annotations import LazyType
from streamstate.definitions._checks import check_plain_name
from streamstate.definitions._sites import user_site
from streamstate.errors import DefinitionError, SerdeError
from streamstate.serde import BytesSerde, Serde, StringSerde

T = TypeVar("T")

_TEXT_KEYS = StringSerde()
_RAW_KEYS = BytesSerde()


class Topic(Generic[T]):
    """A topic and what its records are: `ORDERS = Topic[Order]("orders")`.

    Args:
        name: the topic's name.
        cluster: the connector's name; None is the only one.
        key: the serde of keys; text is UTF-8 by default, and bytes stay as they are. None: records have no key.
        value: overrides the serde picked from T.

    Without a T, values are any JSON.

    Raises DefinitionError for a name that no topic can have.
    """

    def __init__(
        self,
        name: str,
        *,
        cluster: str | None = None,
        key: Serde[Any] | None = _TEXT_KEYS,
        value: Serde[T] | None = None,
    ) -> None:
        self.site = user_site()
        check_plain_name("a topic", name, self.site)
        self.name = name
        self.cluster = cluster
        self.key = key
        self.value_override = value
        self._type = LazyType()

    @cached_property
    def value(self) -> Serde[T]:
        """Picked from T at the first use. Raises DefinitionError if nothing can carry T."""
        if self.value_override is not None:
            return self.value_override
        try:
            return self._type.serde_of(self)
        except (NameError, SerdeError) as error:
            raise DefinitionError(f"topic {self.name!r}: {error} — at {self.site}") from error

    def encode_key(self, key: str | bytes | None, /) -> bytes | None:
        """The bytes of a key. Raises SerdeError if it has none, or if the topic's records have no key."""
        if key is None:
            return None
        if self.key is None:
            raise SerdeError(f"topic {self.name!r} was declared with key=None, but a message has the key {key!r}")
        if self.key is _TEXT_KEYS and isinstance(key, bytes):
            return _RAW_KEYS.encode(key)
        return self.key.encode(key)

    def encode_value(self, value: T | None, /) -> bytes | None:
        """The bytes of a value; None is a tombstone. Raises SerdeError if it has none."""
        return None if value is None else self.value.encode(value)

    def __repr__(self) -> str:
        return f"Topic({self.name!r})"
