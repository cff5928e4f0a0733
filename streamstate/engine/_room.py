"""Room on the store's volume: what would fill it up is refused before a commit can fail.

M1  While there is little room, sources are not read and clients are refused by name; what was accepted goes on.
M2  It ends only when there is clearly more room, so that it does not begin again with the next record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from streamstate.errors import StorageError, Unavailable
from streamstate.storage import OnVolume, Store

_logger = logging.getLogger("streamstate.engine")

# What is under way still has to be written when sources have paused: a log of some 16 MiB and its move into the
# database file, a batch that is being written and one that fills (20,000 records, some ten MiB), the steps that run.
# Four times that, since other programs write to the volume too.
FREE_BYTES_MIN: Final = 256 * 1024 * 1024
LOOK_EVERY_S: Final = 1.0  # besides every commit: other programs fill the volume, and empty it


class Room:
    """See the module.

    Args:
        store: one that is on no volume always has room.
        free_bytes_min: below this, there is little room; 0 never looks.
        changed: is told when it begins and when it ends.
        failed: is told when the volume does not answer.

    Attributes:
        is_low: whether there is little room.
    """

    def __init__(
        self,
        store: Store,
        free_bytes_min: int,
        changed: Callable[[], None],
        failed: Callable[[StorageError], None],
    ) -> None:
        self._volume = store if free_bytes_min and isinstance(store, OnVolume) else None
        self._free_bytes_min = free_bytes_min
        self._enough_bytes = free_bytes_min + free_bytes_min // 4
        self._free_bytes = 0
        self._changed = changed
        self._failed = failed
        self._next_look: asyncio.TimerHandle | None = None
        self.is_low = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look now, and every second."""
        if self._volume is not None:
            self.look()
            self._next_look = loop.call_later(LOOK_EVERY_S, self.start, loop)

    def stop(self) -> None:
        """Look no more."""
        if self._next_look is not None:
            self._next_look.cancel()

    def look(self) -> None:
        """See how much room there is."""
        if self._volume is None:
            return
        try:
            self._free_bytes = free = self._volume.free_bytes()
        except StorageError as error:
            self._failed(error)
            return
        if not self.is_low and free < self._free_bytes_min:
            self.is_low = True
            _logger.warning("sources are paused and clients refused: %s", self._text())
            self._changed()
        elif self.is_low and free >= self._enough_bytes:
            self.is_low = False
            _logger.warning("sources are read and clients accepted again: %d MiB are free", free >> 20)
            self._changed()

    def check(self) -> None:
        """Raises Unavailable while there is little room."""
        if self.is_low:
            raise Unavailable(self._text())

    def _text(self) -> str:
        return (
            f"the data directory's volume has {self._free_bytes:,} bytes free, less than the {self._free_bytes_min:,} "
            f"of EngineOptions(free_bytes_min=…); free some space: it goes on at {self._enough_bytes:,}"
        )
