"""Rows a second that the SQLite store makes durable, with a main thread that idles and with one that computes."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from streamstate.storage import Batch, SqliteStore

_VALUE = b"x" * 40
_KEYS = 5_000
_ROWS_TOTAL = 200_000
_SWITCH_INTERVAL_S = 0.0005


def batches(rows: int, keys: int = _KEYS) -> list[Batch]:
    """Batches of about this many state rows on random keys, and the positions of four partitions."""
    choose = random.Random(1)
    made = []
    for number in range(_ROWS_TOTAL // rows):
        state: dict[tuple[str, str], dict[str, bytes | None]] = {
            ("Order", f"key-{choose.randrange(keys)}"): {"state": _VALUE} for _ in range(rows)
        }
        positions = {("orders", "topic", "topic-id", partition): number for partition in range(4)}
        made.append(Batch(state=state, positions=positions, clock_ms=number))
    return made


@contextmanager
def busy_thread() -> Iterator[None]:
    """Another thread that never lets go of the interpreter by itself."""
    stop = False

    def compute() -> None:
        number = 0
        while not stop:
            number += 1

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        stop = True
        thread.join()


def rows_per_second(directory: Path, work: list[Batch]) -> float:
    store = SqliteStore.open(directory)
    started = time.perf_counter()
    for batch in work:
        store.commit(batch)
    elapsed = time.perf_counter() - started
    store.close()
    return sum(len(batch.state) for batch in work) / elapsed


def main() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        for rows in (10, 100, 1_000, 1_500, 3_000, 5_000):
            work = batches(rows)[:1000]
            with TemporaryDirectory() as idle, TemporaryDirectory() as busy:
                alone = rows_per_second(Path(idle), work)
                with busy_thread():
                    beside = rows_per_second(Path(busy), work)
            print(f"{rows:>5} rows a batch: {alone:>9,.0f} rows/s alone, {beside:>9,.0f} rows/s beside a busy thread")
    finally:
        sys.setswitchinterval(interval)


if __name__ == "__main__":
    main()
