"""Starts the worker process, kills it, and starts it again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from dataclasses import dataclass
from pathlib import Path

from streamstate.errors import StreamstateError

DRAIN_S_MAX = 20.0
# 0, or so young that the signal came before there was anything to drain.
CLEAN_ENDS = (0, -signal.SIGTERM)
LOG_LINES_SHOWN = 15


class WorkerDied(StreamstateError):
    """The worker ended although nobody killed it."""


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """What a worker needs, and where it leaves its traces."""

    bootstrap: str
    prefix: str
    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def books(self) -> Path:
        return self.folder / "bank.db"

    @property
    def log(self) -> Path:
        return self.folder / "worker.log"


class Worker:
    """The worker process.

    Attributes:
        kills: how often it was killed.
    """

    def __init__(self, place: WorkerPlace) -> None:
        self._place = place
        self._process: Process | None = None
        self._has_started = asyncio.Event()
        self.kills = 0

    async def start(self) -> None:
        place = self._place
        arguments = ("--bootstrap", place.bootstrap, "--data", str(place.data), "--books", str(place.books))
        with place.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                # -P: a file of the folder that the demo is started in must not be taken for a module.
                *("-P", "-m", "food_ordering.worker", *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "FOOD_ORDERING_TOPIC_PREFIX": place.prefix},
                start_new_session=True,  # a Ctrl-C at the terminal is for the demo, which then stops the worker
            )
        self._has_started.set()

    async def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed."""
        if self._process is not None:
            self._has_started.clear()
            self._process.kill()
            await self._process.wait()
            self.kills += 1

    async def stop(self) -> None:
        """SIGTERM, and wait until it has drained.

        Raises:
            WorkerDied: it did not end in time, or not cleanly.
        """
        if self._process is None or self._process.returncode is not None:
            return
        self._has_started.clear()
        self._process.terminate()
        try:
            code = await asyncio.wait_for(self._process.wait(), DRAIN_S_MAX)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise WorkerDied(f"the worker did not drain in {DRAIN_S_MAX:.0f} s\n{self._last_words()}") from None
        if code not in CLEAN_ENDS:
            raise WorkerDied(f"the worker drained with exit code {code}\n{self._last_words()}")

    async def watch(self) -> None:
        """Until cancelled.

        Raises:
            WorkerDied: it ended although nobody killed it.
        """
        while True:
            await self._has_started.wait()
            assert self._process is not None
            code = await self._process.wait()
            if self._has_started.is_set():
                raise WorkerDied(f"the worker ended by itself with exit code {code}\n{self._last_words()}")

    def _last_words(self) -> str:
        lines = self._place.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  | {line}" for line in lines[-LOG_LINES_SHOWN:])
