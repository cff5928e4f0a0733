"""How much more fits on a volume."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, runtime_checkable

from streamstate.errors import StorageError


@runtime_checkable
class OnVolume(Protocol):
    """A store that can run out of room."""

    def free_bytes(self) -> int:
        """How much more fits on its volume.

        Raises:
            StorageError: the volume does not answer.
        """
        ...


def free_bytes(directory: Path) -> int:
    """What an ordinary user may still write to the volume of this directory.

    Raises:
        StorageError: the volume does not answer.
    """
    try:
        volume = os.statvfs(directory)
    except OSError as error:
        raise StorageError(
            f"{directory}: its volume does not say how much room it has ({error.strerror}); check the disk"
        ) from error
    return volume.f_bavail * volume.f_frsize
