"""Telling a lasting condition once, when it begins or changes, and not at every retry."""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("streamstate.kafka")


class Notices:
    """Logs the faults of one source or sink: once per change, and again after it went well in between."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._told: dict[str, str] = {}

    def warn(self, about: str, text: str) -> None:
        if self._told.get(about) != text:
            self._told[about] = text
            LOGGER.warning("%s: %s", self._owner, text)

    def well(self) -> None:
        """It works again."""
        if self._told:
            self._told.clear()
            LOGGER.info("%s: works again", self._owner)
