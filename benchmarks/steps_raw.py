"""The baseline of `steps`: what a program does by hand, with the same promises to its callers.

An input is durable before its step runs; the step's result, the state and the answer are durable before the caller has
it, and the input is gone then. Commits are shared by whoever is ready, in a thread of their own.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw

from benchmarks._children import report
from benchmarks.steps_workload import Stopwatch, call_from_all, charge, key_of


class Book:
    """Inputs and states in one SQLite file, with the durability of the engine's store."""

    def __init__(self, path: Path) -> None:
        self._connection = apsw.Connection(str(path))
        self._connection.pragma("journal_mode", "wal")
        self._connection.pragma("synchronous", "full")
        self._connection.execute(
            "CREATE TABLE input (id INTEGER PRIMARY KEY, key TEXT, amount INTEGER);"
            "CREATE TABLE account (key TEXT PRIMARY KEY, charged INTEGER) WITHOUT ROWID"
        )
        self._writer = ThreadPoolExecutor(1)
        self._inputs: list[tuple[int, str, int]] = []
        self._ended: list[tuple[int]] = []
        self._states: dict[str, int] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._is_writing = False
        self._last = 0
        self.states: dict[str, int] = {}

    async def charge(self, key: str, amount: int) -> int:
        """One call: accept, run the step, keep what it gave."""
        self._last = number = self._last + 1
        self._inputs.append((number, key, amount))
        await self._durable()
        total = await asyncio.create_task(charge(amount))
        self.states[key] = self._states[key] = self.states.get(key, 0) + 1
        self._ended.append((number,))
        await self._durable()
        return total

    async def _durable(self) -> None:
        loop = asyncio.get_running_loop()
        durable: asyncio.Future[None] = loop.create_future()
        self._waiting.append(durable)
        if not self._is_writing:
            self._is_writing = True
            # So that everyone who is ready in this round of the loop shares the commit.
            loop.call_soon(self._write)
        await durable

    def _write(self) -> None:
        work = self._inputs, self._ended, self._states
        waiting = self._waiting
        self._inputs, self._ended, self._states, self._waiting = [], [], {}, []
        written = asyncio.get_running_loop().run_in_executor(self._writer, self._commit, *work)
        written.add_done_callback(lambda done: self._written(done, waiting))

    def _commit(self, inputs: list[tuple[int, str, int]], ended: list[tuple[int]], states: dict[str, int]) -> None:
        with self._connection as connection:
            connection.executemany("INSERT INTO input VALUES (?,?,?)", inputs)
            connection.executemany("DELETE FROM input WHERE id = ?", ended)
            connection.executemany("INSERT OR REPLACE INTO account VALUES (?,?)", states.items())

    def _written(self, done: asyncio.Future[None], waiting: list[asyncio.Future[None]]) -> None:
        done.result()
        for durable in waiting:
            durable.set_result(None)
        if self._waiting:
            self._write()
        else:
            self._is_writing = False

    def durable_steps(self) -> int:
        rows = self._connection.execute("SELECT coalesce(sum(charged), 0), (SELECT count(*) FROM input) FROM account")
        ((charged, left),) = rows.fetchall()
        assert isinstance(charged, int), "the sum of a column of integers"
        return charged if not left else -1

    def close(self) -> None:
        self._writer.shutdown()


async def records(book: Book, keys: int, steps: int) -> dict[str, float]:
    """Everything is there at once: a queue and a worker for each key."""
    watch = Stopwatch()

    async def worker(key: str) -> None:
        for number in range(steps // keys):
            await book.charge(key, number)

    await asyncio.gather(*(worker(key_of(number)) for number in range(keys)))
    return watch.figures(steps // keys * keys)


async def run_load(load: str, keys: int, steps: int, directory: Path) -> dict[str, float]:
    book = Book(directory / "raw.db")
    figures = await (
        call_from_all(keys, steps // keys, book.charge) if load == "callers" else records(book, keys, steps)
    )
    book.close()
    return {**figures, "durable": book.durable_steps()}


def main(load: str, keys: str, steps: str, directory: str) -> None:
    report(asyncio.run(run_load(load, int(keys), int(steps), Path(directory))))


if __name__ == "__main__":
    main(*sys.argv[1:])
