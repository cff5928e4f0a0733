"""`streamstate run`: an App on the embedded engine, until it is told to stop.

R1: the first SIGTERM or Ctrl-C drains; a second Ctrl-C ends the process at once, which loses nothing (I1).
R2: the exit code is 0 only if everything that was decided is durable.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from streamstate.app import App, Running
from streamstate.cli._faults import told, user_site
from streamstate.engine import EngineOptions
from streamstate.errors import StreamstateError

INTERRUPTED = 130  # 128 + SIGINT, as shells count
STEP_THREADS = "streamstate-step"
STEP_THREADS_END_S_MAX = 1.0  # idle threads end in microseconds; one that takes longer is in the middle of a step

_logger = logging.getLogger("streamstate.run")


def log_to_stderr(level: str) -> None:
    """Readable lines on standard error; a program that has set up logging itself keeps what it has."""
    form = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    logging.basicConfig(level=level.upper(), format=form, stream=sys.stderr)


def run(app: App, data: Path, *, drain: timedelta, say: Callable[[str], None], take_over: bool = False) -> NoReturn:
    """Run the App until SIGTERM or Ctrl-C, then exit: 0 when drained, 1 with the error on standard error."""
    code = 0
    threads = ThreadPoolExecutor(thread_name_prefix=STEP_THREADS)
    stop = _Stop()
    with stop.on_signals():
        try:
            options = EngineOptions(threads=threads, drain=drain)
            asyncio.run(_serve(app.embedded(data, options=options, take_over=take_over), stop, say))
        except Exception as error:  # the user's lifespan may raise anything
            _logger.debug("the App ended with an error", exc_info=error)
            if not isinstance(error, StreamstateError) and user_site(error) is None:
                raise  # a mistake of ours: its traceback belongs into the report
            click.ClickException(told(error)).show()
            code = 1
        threads.shutdown(wait=False, cancel_futures=True)
        _leave(code)


class _Stop:
    """The wish to stop.

    Attributes:
        is_asked: whether a signal has said so.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: Callable[[], object] | None = None

    def tell(self, asked: Callable[[], object] | None) -> None:
        """Call `asked`, and no longer what was to be called before, on this loop when a signal comes or has come."""
        self._loop, self._asked = asyncio.get_running_loop(), asked
        if self.is_asked:
            self._loop.call_soon(self._pass_on)

    def _pass_on(self) -> None:
        if self._asked is not None:
            self._asked()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        # Not by the event loop: a handler that blocks it must not be able to keep out the second Ctrl-C.
        before = {number: signal.signal(number, self._take) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number: int, _: FrameType | None) -> None:
        if self.is_asked and number == signal.SIGINT:
            _exit(INTERRUPTED)
        is_first, self.is_asked = not self.is_asked, True
        if is_first and self._loop is not None and self._asked is not None:
            self._loop.call_soon_threadsafe(self._pass_on)


async def _serve(embedded: AbstractAsyncContextManager[Running], stop: _Stop, say: Callable[[str], None]) -> None:
    serving = asyncio.current_task()
    assert serving is not None, "a coroutine runs in a task"
    stop.tell(serving.cancel)
    is_running = False
    try:
        async with embedded as running:
            is_running = True
            asked = asyncio.Event()
            stop.tell(asked.set)
            say("running; SIGTERM or Ctrl-C drains and stops")
            waits = asyncio.create_task(asked.wait())
            failure = asyncio.create_task(running.failed())
            failure.add_done_callback(_seen)
            await asyncio.wait({waits, failure}, return_when=asyncio.FIRST_COMPLETED)
            waits.cancel()
            if not failure.done():
                say("draining; Ctrl-C ends it at once")
    except asyncio.CancelledError:
        if is_running or not stop.is_asked:
            raise
        say("stopped before it was running")
        return
    finally:
        stop.tell(None)
    # Here and not above: a commit may also fail while the engine drains.
    await asyncio.sleep(0)
    if failure.done():
        failure.result()
    failure.cancel()
    say("stopped")


def _seen(failure: asyncio.Task[NoReturn]) -> None:
    # What else goes wrong because of it may be what is raised; it is no news then.
    if not failure.cancelled():
        failure.exception()


def _leave(code: int) -> NoReturn:
    """Exit without waiting for a step in a thread that outlasted the drain: it runs again at the next start."""
    deadline_s = time.monotonic() + STEP_THREADS_END_S_MAX
    for thread in threading.enumerate():
        if thread.name.startswith(STEP_THREADS):
            thread.join(max(0.0, deadline_s - time.monotonic()))
            if thread.is_alive():
                _exit(code)
    sys.exit(code)


def _exit(code: int) -> NoReturn:
    """End the process now, whatever its threads do."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, RuntimeError):  # gone, or being written to where the signal came in
            stream.flush()
    os._exit(code)
