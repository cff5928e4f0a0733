"""Where in the user's files something was declared."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

_PACKAGE = __name__.partition(".")[0]


def user_frame() -> FrameType:
    """The innermost frame outside of streamstate: the one that declares."""
    frame = inspect.currentframe()
    assert frame is not None, "CPython has frames"
    while frame.f_back is not None and _is_passed_through(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return frame


def user_site() -> str:
    """File and line of the innermost frame outside of streamstate."""
    frame = user_frame()
    return site(frame.f_code.co_filename, frame.f_lineno)


def function_site(function: Callable[..., Any]) -> str:
    """File and line of a function, or of the declaring frame if it has none."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return user_site() if code is None else site(code.co_filename, code.co_firstlineno)


def site(file: str, line: int) -> str:
    """`file:line`, the file relative to the working directory where it is inside."""
    path = Path(file)
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{line}"


def _is_passed_through(module: str) -> bool:
    # typing calls the constructors of StateKey[T] and Topic[T], functools fills cached properties.
    return module in ("typing", "functools") or module == _PACKAGE or module.startswith(f"{_PACKAGE}.")
