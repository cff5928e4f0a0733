"""The application's process: started, killed, started again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
POLL_S = 0.01
STOP_S_MAX = 30.0
WORDS_SHOWN = 3_000


class Child:
    """One process at a time, always with the same arguments.

    Attributes:
        kills: how often it was killed.
    """

    def __init__(self, arguments: list[str], log: Path) -> None:
        self._arguments = arguments
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.kills = 0

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self, *more: str) -> None:
        """Start it, with more arguments perhaps."""
        command = [sys.executable, "-m", "tests.durability.application", *self._arguments, *more]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log)

    def run_until(self, condition: Callable[[], bool], what: str, within_s: float) -> None:
        """Let it run until something outside shows that the condition holds."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {within_s} s\n{self.last_words()}"
            self.run_for(POLL_S)

    def run_for(self, seconds: float) -> None:
        """Let it run this long; that it ends by itself is a failure."""
        try:
            code = self._running().wait(seconds)
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(f"the application ended by itself with exit code {code}\n{self.last_words()}")

    def suspend(self) -> None:
        """SIGSTOP: it stands still, and knows nothing of it."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def ended_by_itself(self, within_s: float) -> str:
        """Wait for it to fail; what it said."""
        try:
            code = self._running().wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the application did not end by itself in {within_s} s\n{self.last_words()}"
            ) from None
        self._reap()
        assert code == 1, f"the application ended with exit code {code}\n{self.last_words()}"
        return self.last_words()

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed."""
        self._running().kill()
        self._reap()
        self.kills += 1

    def stop(self) -> None:
        """SIGTERM; it must drain and end well."""
        self._running().terminate()
        code = self._reap()
        assert code == 0, f"the application drained with exit code {code}\n{self.last_words()}"

    def close(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def last_words(self) -> str:
        return self._log.read_text(errors="replace")[-WORDS_SHOWN:] if self._log.exists() else ""

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the application was not started"
        return self._process

    def _reap(self) -> int:
        process, self._process = self._running(), None
        assert process.stdin is not None
        try:
            return process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the application did not drain in {STOP_S_MAX} s\n{self.last_words()}") from None
        finally:
            process.stdin.close()
