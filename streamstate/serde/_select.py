"""From an annotation to its serde."""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from streamstate.serde._json import JsonSerde
from streamstate.serde._plain import BytesSerde, EmptySerde, OptionalBytesSerde
from streamstate.serde._serde import Serde


def serde_for(annotation: object) -> Serde[Any]:
    """The serde of an annotation: raw for `bytes`, empty for None, JSON for everything else, `str` included.

    Raises SerdeError, naming the type, if nothing can carry it.
    """
    plain = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if plain is None or plain is NoneType:
        return EmptySerde()
    if plain is bytes:
        return BytesSerde()
    if get_args(plain) in ((bytes, NoneType), (NoneType, bytes)):
        return OptionalBytesSerde()
    return JsonSerde(annotation)
