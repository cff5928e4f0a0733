"""What to say of an error that the user's own code raised: the error itself, and its file and line."""

from __future__ import annotations

import re
import sysconfig
import traceback
from pathlib import Path
from types import FrameType

from streamstate.errors import StreamstateError

_OURS = re.compile(r"(streamstate|streamstate_kafka)(\.|$)")
_HAS_SITE = re.compile(r" at \S+:\d+")


def told(error: BaseException) -> str:
    """The error in one sentence; where it happened is added, unless it says so itself."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    if not isinstance(error, StreamstateError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    site = user_site(error)
    return text if site is None or _HAS_SITE.search(text) else f"{text} — at {site}"


def user_site(error: BaseException) -> str | None:
    """`file:line` of the innermost frame in the user's own files; None if there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return _site(error.filename, error.lineno or 1)
    innermost = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if _is_users(frame):
            innermost = _site(frame.f_code.co_filename, line)
    return innermost


def _is_users(frame: FrameType) -> bool:
    if _OURS.match(frame.f_globals.get("__name__", "")):
        return False
    file = Path(frame.f_code.co_filename)
    libraries = (Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
    return file.is_absolute() and not any(file.is_relative_to(library) for library in libraries)


def _site(file: str, line: int) -> str:
    path = Path(file)
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{line}"
