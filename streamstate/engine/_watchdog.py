"""Tells when the event loop stands still, and on whose account.

A thread asks the loop for a sign of life now and then; where none comes in time, it takes the stack of the loop's
thread. Nothing is asked of the turns themselves, so watching costs them nothing.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import FrameType
from typing import NamedTuple

from streamstate.context import label_of_handler
from streamstate.engine._steps import label_of_step

_logger = logging.getLogger("streamstate.engine")

FRAMES_MAX = 30  # of the stack that is told, the innermost ones


class Culprit(NamedTuple):
    """Who has the loop, where in the user's code, what to do about it, and the frames from there inwards."""

    label: str
    remedy: str
    frames: list[FrameType]


class Watchdog:
    """Watches one event loop, from its start to its stop.

    Args:
        threshold_s: how long the loop may go without a sign of life.
    """

    def __init__(self, threshold_s: float) -> None:
        self._threshold_s = threshold_s
        self._thread: threading.Thread | None = None
        self._alive = threading.Event()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Watch the running loop, on whose thread this is called."""
        loop, watched = asyncio.get_running_loop(), threading.get_ident()
        self._thread = threading.Thread(
            target=self._watch, args=(loop, watched), name="streamstate-watchdog", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; returns when the thread has ended."""
        self._stopping.set()
        self._alive.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, loop: asyncio.AbstractEventLoop, watched: int) -> None:
        while not self._stopping.wait(self._threshold_s / 2):
            self._alive.clear()
            asked_s = time.monotonic()
            try:
                loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:
                return  # the loop is closed: its owner has forgotten to stop the engine, and was told so elsewhere
            if self._stopping.is_set() or self._alive.wait(self._threshold_s):
                continue
            frame = sys._current_frames().get(watched)  # noqa: SLF001  # documented, and the only way to that stack
            if frame is not None:
                self._tell(_culprit_of(frame))
                del frame
            self._alive.wait()
            if not self._stopping.is_set():
                _logger.warning("the event loop runs again, after %.1f s", time.monotonic() - asked_s)

    def _tell(self, culprit: Culprit) -> None:
        where = f"{culprit.frames[-1].f_code.co_filename}:{culprit.frames[-1].f_lineno}"
        stack = traceback.StackSummary.extract(
            ((frame, frame.f_lineno) for frame in culprit.frames[-FRAMES_MAX:]), lookup_lines=True
        )
        _logger.warning(
            "the event loop has stood still for %.1f s: %s has it, at %s. Nothing else runs meanwhile. %s\n%s",
            self._threshold_s,
            culprit.label,
            where,
            culprit.remedy,
            "".join(stack.format()).rstrip(),
        )


def _culprit_of(innermost: FrameType) -> Culprit:
    frames: list[FrameType] = []
    frame: FrameType | None = innermost
    while frame is not None:
        handler = label_of_handler(frame)
        if handler is not None and frames:
            remedy = 'Put what blocks into a step, await ctx.run("name", function): a sync function runs in a thread'
            return Culprit(handler, remedy, frames[::-1])
        step = label_of_step(frame)
        if step is not None and frames:
            return Culprit(step, "Make its action a plain function: that runs in a thread", frames[::-1])
        frames.append(frame)
        frame = frame.f_back
    return Culprit("the application", "Let it call what blocks in a thread, asyncio.to_thread(...)", frames[::-1])
