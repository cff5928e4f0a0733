"""What becomes of the files of a data directory while nobody uses them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.storage.faults.vfs import PAGE_BYTES

DATABASE = "streamstate.db"
LOG = "streamstate.db-wal"
_LOG_HEADER, _FRAME = 32, 24 + PAGE_BYTES

Damage = Callable[[Path, random.Random, Sequence[Path]], str]
"""Damages the directory, given older copies of it; says what it did."""


def flip_bit(directory: Path, choose: random.Random, _older: Sequence[Path]) -> str:
    path, data = _some_file(directory, choose)
    at = choose.randrange(len(data))
    data[at] ^= 1 << choose.randrange(8)
    path.write_bytes(data)
    return f"{path.name}: a bit at {at}"


def overwrite(directory: Path, choose: random.Random, _older: Sequence[Path]) -> str:
    path, data = _some_file(directory, choose)
    at = choose.randrange(len(data))
    length = min(choose.choice((1, 8, 512, PAGE_BYTES)), len(data) - at)
    data[at : at + length] = choose.randbytes(length)
    path.write_bytes(data)
    return f"{path.name}: {length} bytes at {at}"


def cut(directory: Path, choose: random.Random, _older: Sequence[Path]) -> str:
    path, data = _some_file(directory, choose)
    length = choose.choice((0, choose.randrange(len(data)), choose.randrange(len(data)) // PAGE_BYTES * PAGE_BYTES))
    path.write_bytes(data[:length])
    return f"{path.name}: cut from {len(data)} to {length}"


def zero_page(directory: Path, choose: random.Random, _older: Sequence[Path]) -> str:
    path, data = _some_file(directory, choose)
    start, size = _page(path, data, choose)
    data[start : start + size] = bytes(min(size, len(data) - start))
    path.write_bytes(data)
    return f"{path.name}: zeros at {start}"


def swap_pages(directory: Path, choose: random.Random, _older: Sequence[Path]) -> str:
    path, data = _some_file(directory, choose)
    (one, size), (other, _) = _page(path, data, choose), _page(path, data, choose)
    data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]
    path.write_bytes(data)
    return f"{path.name}: pages at {one} and {other} swapped"


def remove(directory: Path, choose: random.Random, _older: Sequence[Path]) -> str:
    path = choose.choice(sorted(directory.iterdir()))
    path.unlink()
    return f"{path.name}: removed"


def put_older(directory: Path, choose: random.Random, older: Sequence[Path]) -> str:
    copy = choose.choice(sorted(choose.choice(older).iterdir()))
    shutil.copy(copy, directory / copy.name)
    return f"{copy.name}: of {copy.parent.name}"


def put_older_page(directory: Path, choose: random.Random, older: Sequence[Path]) -> str:
    """A write that the disk has lost, and said nothing."""
    path, data = _some_file(directory, choose)
    copy = choose.choice(older) / path.name
    start, size = _page(path, data, choose)
    before = copy.read_bytes()[start : start + size] if copy.exists() else b""
    data[start : start + len(before)] = before
    path.write_bytes(data)
    return f"{path.name}: at {start} {len(before)} bytes of {copy.parent.name}"


ALL: dict[str, Damage] = {
    "a flipped bit": flip_bit,
    "overwritten bytes": overwrite,
    "a cut file": cut,
    "a zeroed page": zero_page,
    "swapped pages": swap_pages,
    "a removed file": remove,
    "an older file": put_older,
    "an older page": put_older_page,
}


def _some_file(directory: Path, choose: random.Random) -> tuple[Path, bytearray]:
    """The database and the log more often than the rest."""
    files = [path for path in sorted(directory.iterdir()) if path.stat().st_size]
    path = choose.choice(files + [path for path in files if path.name in (DATABASE, LOG)] * 4)
    return path, bytearray(path.read_bytes())


def _page(path: Path, data: bytearray, choose: random.Random) -> tuple[int, int]:
    """Where a page begins, and its size; of a log, a frame."""
    first, size = (_LOG_HEADER, _FRAME) if path.name == LOG else (0, PAGE_BYTES)
    return first + size * choose.randrange(max(1, (len(data) - first) // size)), size
