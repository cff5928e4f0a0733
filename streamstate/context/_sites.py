"""Source lines: where in the user's code a command was issued."""

from __future__ import annotations

import sys
from types import CodeType, FrameType

SITES_KNOWN_MAX = 10_000  # a program has fewer lines with verbs, unless it makes code as it runs


def line_of(code: CodeType, instruction: int) -> str:
    """The file:line of an instruction of a code object."""
    for start, end, line in code.co_lines():
        if start <= instruction < end:
            return f"{code.co_filename}:{line}"
    return f"{code.co_filename}:{code.co_firstlineno}"


def user_line() -> str:
    """The innermost line outside of the framework and of asyncio, as file:line."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        known = _known.get((id(frame.f_code), frame.f_lasti)) or _look_at(frame)
        if known[1]:
            return known[1]
        frame = frame.f_back
    return ""


# By code and instruction: the code, so that its id stays its own, and file:line, empty for code that is not the user's.
_known: dict[tuple[int, int], tuple[CodeType, str]] = {}


def _look_at(frame: FrameType) -> tuple[CodeType, str]:
    module = str(frame.f_globals.get("__name__", ""))
    is_ours = module.startswith(("streamstate.context", "asyncio"))
    if len(_known) >= SITES_KNOWN_MAX:
        _known.clear()
    known = (frame.f_code, "" if is_ours else f"{frame.f_code.co_filename}:{frame.f_lineno}")
    _known[id(frame.f_code), frame.f_lasti] = known
    return known
