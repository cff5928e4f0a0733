"""How values, bytes and types look in messages."""

from __future__ import annotations

EXCERPT_LENGTH_MAX = 80  # enough to recognise a payload, too little to flood a log


def excerpt(value: object) -> str:
    """The beginning of a value or of bytes."""
    if isinstance(value, bytes) and len(value) > EXCERPT_LENGTH_MAX:
        return f"{value[:EXCERPT_LENGTH_MAX]!r}... ({len(value)} bytes)"
    text = repr(value)
    return text if len(text) <= EXCERPT_LENGTH_MAX + 3 else f"{text[:EXCERPT_LENGTH_MAX]}..."


def type_name(annotation: object) -> str:
    """An annotation as its author would write it."""
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__qualname__.rpartition("<locals>.")[2]
    return repr(annotation).replace("typing.", "")
