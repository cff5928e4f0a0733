"""Pydantic models, without importing pydantic: a program that has such a class has imported it already."""

from __future__ import annotations

import sys
from typing import Any, TypeGuard


def is_model(annotation: object) -> TypeGuard[Any]:
    """Whether the annotation is a class of pydantic 2."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel)


def validate(cls: type, plain: object) -> object:
    """Decodes a model inside another type. Raises ValueError, to which msgspec adds the path."""
    if is_model(cls):
        try:
            return cls.model_validate(plain)
        except ValueError as error:
            raise ValueError(reason(error)) from error
    if cls is object:  # any JSON, as the author of `dict[str, object]` means it
        return plain
    raise TypeError(f"{cls.__qualname__} has no JSON form")


def reason(error: Exception) -> str:
    """The message of an error, for pydantic's in one line: each path and what is wrong there."""
    if type(error).__name__ != "ValidationError" or not hasattr(error, "errors"):
        return str(error)
    details = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{detail['msg']} - at `{'.'.join(('$', *map(str, detail['loc'])))}`" for detail in details)


def dump(value: object) -> object:
    """Encodes a model, alone or inside another type, as built-in values."""
    if is_model(type(value)):
        # By alias, for that is what validation reads.
        return _in_order(value.model_dump(by_alias=True), value.model_dump(mode="json", by_alias=True))  # type: ignore[attr-defined]  # is_model
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


def _in_order(value: object, plain: object) -> object:
    """`plain` with its parts sorted that are sets in `value`, for the order of a set depends on the process."""
    if isinstance(value, set | frozenset) and isinstance(plain, list):
        return sorted(plain, key=repr)
    if isinstance(value, dict) and isinstance(plain, dict) and len(value) == len(plain):
        return {key: _in_order(part, item) for part, (key, item) in zip(value.values(), plain.items(), strict=True)}
    if isinstance(value, list | tuple) and isinstance(plain, list) and len(value) == len(plain):
        return [_in_order(part, item) for part, item in zip(value, plain, strict=True)]
    return plain  # a leaf, or the work of a serializer of the model's own
