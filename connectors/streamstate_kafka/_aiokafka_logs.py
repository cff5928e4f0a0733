"""What aiokafka logs on our behalf, told once and without secrets.

aiokafka tells an outage by log lines alone, ten a second, and its debug lines show the password that it sends. So the
lines of our own clients come here instead: all their tasks carry who they work for in their context. The lines of an
aiokafka that somebody else uses in this process go where they always went.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from streamstate_kafka._notices import Notices

CALM_S = 2.0  # so long after its last complaint a client counts as well again


class Complaints:
    """What one client complains of: each kind of line once, and again after it went well in between.

    Attributes:
        last: the last of them, for an error that knows no more than that it failed.
    """

    def __init__(self, notices: Notices, scrub: Callable[[str], str]) -> None:
        self._notices = notices
        self._scrub = scrub
        self._told: set[str] = set()
        self._heard = 0.0
        self.last = ""

    @contextmanager
    def heard(self) -> Iterator[None]:
        """What is logged in here, or by a task that is started in here, comes to us."""
        _install()
        token = _LISTENER.set(self)
        try:
            yield
        finally:
            _LISTENER.reset(token)

    def take(self, line: logging.LogRecord) -> None:
        if line.levelno < logging.WARNING:
            return
        text = line.getMessage()
        if line.exc_info and line.exc_info[1] is not None:
            text = f"{text}: {line.exc_info[1]!r}"
        self.tell(line.msg, text)

    def tell(self, about: str, text: str) -> None:
        self.last = self._scrub(text)
        self._heard = time.monotonic()
        if about not in self._told:
            self._told.add(about)
            self._notices.warn(about, f"{self.last}; retrying")

    def well(self) -> None:
        """It works; believed if there was no complaint for a while, since one broker of many may be away."""
        if self._told and time.monotonic() - self._heard > CALM_S:
            self._told.clear()
            self._notices.well()


class _ToListener(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        listener = _LISTENER.get(None)
        if listener is not None:
            listener.take(record)
        return listener is None


_LISTENER: ContextVar[Complaints] = ContextVar("streamstate_kafka_listener")
_TO_LISTENER = _ToListener()


def _install() -> None:
    """A filter of a logger is not asked for the lines of the loggers below it, so every one has it."""
    for name in list(logging.Logger.manager.loggerDict):
        if name == "aiokafka" or name.startswith("aiokafka."):
            logging.getLogger(name).addFilter(_TO_LISTENER)
