"""JSON by msgspec.

S1: equal values have equal bytes in every process, for the journal compares bytes: sets and dicts are sorted.
S2: a type that cannot be encoded or decoded is refused when the serde is made, not when the first value arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

import msgspec

from streamstate.errors import SerdeError
from streamstate.serde._excerpt import excerpt, type_name
from streamstate.serde._pydantic import dump, is_model, reason, validate
from streamstate.serde._support import check_supported, takes_none

T = TypeVar("T")

REFUSALS = (ValueError, TypeError, RecursionError)  # msgspec's errors and pydantic's are ValueErrors

_ENCODER = msgspec.json.Encoder(enc_hook=dump, order="deterministic")


class JsonSerde(Generic[T]):
    """JSON of one type: a msgspec Struct, dataclass, TypedDict, pydantic model or built-in, or unions and generics.

    Args:
        annotation: the type; `object` takes any JSON. A union has to be said twice, for the type checker's sake:
            `JsonSerde[int | None](int | None)`.

    Raises SerdeError if JSON cannot carry the type.

    No data at all decodes to None where the type allows None.
    """

    content_type = "application/json"

    __slots__ = ("_annotation", "_decode", "_encode")

    @overload
    def __init__(self, annotation: type[T], /) -> None: ...
    @overload
    def __init__(self, annotation: object, /) -> None: ...
    def __init__(self, annotation: object, /) -> None:
        self._annotation = annotation
        self._encode: Callable[[T], bytes] = _ENCODER.encode
        self._decode: Callable[[bytes], T] = _decoder(annotation)

    def encode(self, value: T, /) -> bytes:
        """The JSON of `value`. Raises SerdeError if it has none."""
        try:
            return self._encode(value)
        except REFUSALS as error:
            return self._encode_with_other_keys(value, error)

    def decode(self, data: bytes, /) -> T:
        """The value of `data`. Raises SerdeError with the path to what does not fit."""
        try:
            return self._decode(data)
        except REFUSALS as error:
            if not data and takes_none(self._annotation):
                return self._decode(b"null")
            raise SerdeError(
                f"not a JSON {type_name(self._annotation)}: {reason(error)}; the data begins {excerpt(data)}"
            ) from error

    def _encode_with_other_keys(self, value: T, error: Exception) -> bytes:
        # msgspec sorts only keys that are strings; others are made strings first, which is slower.
        try:
            return self._encode(msgspec.to_builtins(value, str_keys=True, order="deterministic", enc_hook=dump))
        except REFUSALS:
            raise SerdeError(
                f"no JSON of {type_name(self._annotation)} for {type(value).__name__} {excerpt(value)}: {error}"
            ) from error

    @property
    def codec(self) -> tuple[Callable[[T], bytes], Callable[[bytes], T]]:
        """Encode and decode without a word of explanation: for what they refuse, ask the methods, which say why."""
        return self._encode, self._decode

    def __repr__(self) -> str:
        return f"JsonSerde({type_name(self._annotation)})"


def _decoder(annotation: object) -> Callable[[bytes], Any]:
    if is_model(annotation):
        decode: Callable[[bytes], Any] = annotation.model_validate_json
        return decode
    try:
        decode = msgspec.json.Decoder(Any if annotation is object else annotation, dec_hook=validate).decode
        check_supported(annotation)
    except NameError as error:
        raise SerdeError(f"{type_name(annotation)} names a type that is not defined: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise SerdeError(f"no JSON for {type_name(annotation)}: {error}") from error
    return decode
