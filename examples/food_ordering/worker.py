"""The application as a process of its own, for the demo: `python -m food_ordering.worker --help`.

It does what `streamstate run` does, and two things more that a demo needs: it ends with its parent, and it ends when a
subscription stops, so that nobody waits for records that are not read any more.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from food_ordering.app import build_app
from food_ordering.wire import PROMPT
from streamstate import App, Running
from streamstate.errors import StreamstateError
from streamstate_kafka import Kafka

LOOK_S = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(prog="food_ordering.worker", description=__doc__.partition("\n")[0])
    parser.add_argument("--bootstrap", required=True, help="host:port of the Kafka cluster")
    parser.add_argument("--data", required=True, type=Path, help="the data directory")
    parser.add_argument("--books", required=True, type=Path, help="the file with the bank's books")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        asyncio.run(serve(build_app([Kafka(given.bootstrap, options=PROMPT)], given.books), given.data))
    except StreamstateError as error:
        sys.exit(f"{type(error).__name__}: {error}")


async def serve(app: App, data: Path) -> None:
    """Run until SIGTERM, then drain.

    Raises:
        StreamstateError: the App cannot start, the engine has failed, or a subscription has stopped.
    """
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    async with app.embedded(data) as running:
        ends = [asyncio.create_task(end) for end in (terminated.wait(), running.failed(), _stopped(running))]
        done, pending = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in pending:
            end.cancel()
        for end in done:
            end.result()
    # Once more: a record may be refused, and a commit may fail, while the engine drains.
    _raise_stopped(running)
    with suppress(TimeoutError):
        async with asyncio.timeout(0):
            await running.failed()


async def _stopped(running: Running) -> NoReturn:
    """Wait for a subscription to stop; raises why."""
    while True:
        _raise_stopped(running)
        await asyncio.sleep(LOOK_S)


def _raise_stopped(running: Running) -> None:
    for feed in running.feeds.values():
        if feed.error is not None:
            raise feed.error


def _stop_with_parent() -> None:
    """The demo holds the other end of stdin: when it ends, however it ends, so does the worker."""
    # Not sys.stdin: its lock, held by this thread, would stand in the way of the interpreter's end.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
