"""Source lines: where in the user's code a command was issued."""

from __future__ import annotations

import sys
from types import CodeType, FrameType


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
        module = str(frame.f_globals.get("__name__", ""))
        if not module.startswith(("streamstate.context", "asyncio")):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
