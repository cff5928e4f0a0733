"""The port between values and bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Serde(Protocol[T]):
    """Turns values into bytes and back.

    Attributes:
        content_type: the MIME type of the bytes, or None where there are none.
    """

    @property
    def content_type(self) -> str | None: ...

    def encode(self, value: T, /) -> bytes:
        """The bytes of `value`. Raises SerdeError if it has none."""
        ...

    def decode(self, data: bytes, /) -> T:
        """The value of `data`. Raises SerdeError if it is not what the type says."""
        ...


def quick_codec(serde: Serde[T]) -> tuple[Callable[[T], bytes], Callable[[bytes], T]]:
    """The shortest way to encode and to decode.

    For an input that they refuse, with whatever exception, the serde's own methods are to be asked, which say why.
    """
    found: tuple[Callable[[T], bytes], Callable[[bytes], T]] | None = getattr(serde, "codec", None)
    return found if found is not None else (serde.encode, serde.decode)
