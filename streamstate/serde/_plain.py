"""Serdes without a notation of their own: raw bytes, text, nothing."""

from __future__ import annotations

from streamstate.errors import SerdeError
from streamstate.serde._excerpt import excerpt


class BytesSerde:
    """The bytes as they are."""

    content_type = "application/octet-stream"

    def encode(self, value: bytes, /) -> bytes:
        """`value` itself. Raises SerdeError if it is not bytes."""
        if isinstance(value, bytes):
            return value
        if isinstance(value, bytearray | memoryview):
            return bytes(value)
        raise SerdeError(f"bytes wanted, got {type(value).__name__}: {excerpt(value)}")

    def decode(self, data: bytes, /) -> bytes:
        return data

    def __repr__(self) -> str:
        return "BytesSerde()"


class OptionalBytesSerde:
    """Bytes or None. None has no bytes, so empty bytes come back as None: a tombstone, for instance."""

    content_type = "application/octet-stream"

    def encode(self, value: bytes | None, /) -> bytes:
        return b"" if value is None else _BYTES.encode(value)

    def decode(self, data: bytes, /) -> bytes | None:
        return data or None

    def __repr__(self) -> str:
        return "OptionalBytesSerde()"


class StringSerde:
    """Text as UTF-8, without the quotes of JSON."""

    content_type = "text/plain"

    def encode(self, value: str, /) -> bytes:
        """The UTF-8 of `value`. Raises SerdeError if it is not a string, or has no UTF-8."""
        try:
            return value.encode()
        except (AttributeError, UnicodeEncodeError) as error:
            raise SerdeError(f"text wanted, got {type(value).__name__} {excerpt(value)}: {error}") from error

    def decode(self, data: bytes, /) -> str:
        """The text of `data`. Raises SerdeError if it is not UTF-8."""
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise SerdeError(f"not text in UTF-8: {error}; the data begins {excerpt(data)}") from error

    def __repr__(self) -> str:
        return "StringSerde()"


class EmptySerde:
    """No value at all: the input of a handler without payload, the result of one that returns None."""

    content_type = None

    def encode(self, value: None = None, /) -> bytes:
        """No bytes. Raises SerdeError if there is a value after all."""
        if value is None:
            return b""
        raise SerdeError(f"no value expected, got {type(value).__name__}: {excerpt(value)}")

    def decode(self, data: bytes, /) -> None:
        """None. Raises SerdeError if there are bytes after all."""
        if data:
            raise SerdeError(f"no data expected, got {excerpt(data)}")

    def __repr__(self) -> str:
        return "EmptySerde()"


_BYTES = BytesSerde()
