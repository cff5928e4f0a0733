"""Which annotations msgspec can really carry: it takes a class it does not know, and fails at the first value."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import inspect

from streamstate.serde._excerpt import type_name
from streamstate.serde._pydantic import is_model


def check_supported(annotation: object) -> None:
    """Raises TypeError, naming the class, if some part of the annotation has no JSON."""
    for node in _nodes(inspect.type_info(annotation), set()):
        if isinstance(node, inspect.CustomType) and node.cls is not object and not is_model(node.cls):
            raise TypeError(
                f"{type_name(node.cls)} is a class without a JSON form; "
                "use a msgspec.Struct, a dataclass, a TypedDict, a pydantic model or a built-in type"
            )


def takes_none(annotation: object) -> bool:
    """Whether None is a value of the type."""
    try:
        msgspec.convert(None, annotation)
    except (msgspec.ValidationError, TypeError):
        return False
    return True


def _nodes(node: object, seen: set[int]) -> Iterator[object]:
    if isinstance(node, tuple):
        for item in node:
            yield from _nodes(item, seen)
    elif isinstance(node, inspect.Type | inspect.Field) and id(node) not in seen:
        seen.add(id(node))  # types may contain themselves
        yield node
        for name in node.__struct_fields__:
            yield from _nodes(getattr(node, name), seen)
