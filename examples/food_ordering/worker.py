"""The application as a process of its own, for the demo: `python -m food_ordering.worker --help`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import threading
from pathlib import Path

from food_ordering.app import build_app
from food_ordering.wire import PROMPT
from streamstate import App
from streamstate_kafka import Kafka


def main() -> None:
    parser = argparse.ArgumentParser(prog="food_ordering.worker", description=__doc__)
    parser.add_argument("--bootstrap", required=True, help="host:port of the Kafka cluster")
    parser.add_argument("--data", required=True, type=Path, help="the data directory")
    parser.add_argument("--books", required=True, type=Path, help="the file with the bank's books")
    given = parser.parse_args()
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    asyncio.run(serve(build_app([Kafka(given.bootstrap, options=PROMPT)], given.books), given.data))


async def serve(app: App, data: Path) -> None:
    """Run until SIGTERM, or until the engine fails."""
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    async with app.embedded(data) as running:
        stop, failure = asyncio.create_task(terminated.wait()), asyncio.create_task(running.failed())
        await asyncio.wait({stop, failure}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if failure.done():
            failure.result()
        failure.cancel()


def _stop_with_parent() -> None:
    """The demo holds the other end of stdin: when it ends, however it ends, so does the worker."""
    # Not sys.stdin: its lock, held by this thread, would stand in the way of the interpreter's end.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
