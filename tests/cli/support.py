"""What the tests of the command line share: a project, the commands in this process and in one of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from click.testing import CliRunner, Result

from streamstate.cli import main

WAIT_S_MAX = 30.0
AGAIN_S = 0.1  # as fast as one presses a key
RUNNING = "running; SIGTERM or Ctrl-C drains and stops"
DRAINING = "draining; Ctrl-C ends it at once"

SHOP = """
import msgspec
from streamstate import App, ObjectContext, ObjectSharedContext, VirtualObject, subscribe
from streamstate_kafka import Kafka


class Location(msgspec.Struct):
    lat: float
    lon: float


drivers = VirtualObject("Driver")


@subscribe("driver-updates")
@drivers.handler
async def moved(ctx: ObjectContext, location: Location) -> None:
    ctx.set("last_seen", location.lat)


@drivers.shared
async def where(ctx: ObjectSharedContext) -> float:
    return float(await ctx.get("last_seen"))


app = App([drivers], name="drivers", connectors=[Kafka("SERVERS", options={"sasl.password": "s3cret"})])
"""


def shop(project: Path, servers: str = "broker:9092") -> None:
    """Write the module `shop`, whose `app` reads driver-updates."""
    # A password without SASL is no more than an option that must never be shown.
    (project / "shop.py").write_text(SHOP.replace("SERVERS", servers), encoding="utf-8")


def streamstate(*arguments: str, columns: int = 200) -> Result:
    """Run a command in this process. An exception that is not an exit is an error of the test."""
    result = CliRunner().invoke(main, arguments, prog_name="streamstate", env={"COLUMNS": str(columns)})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result


class Running:
    """`streamstate` in a process of its own.

    Attributes:
        output: what it has said so far, on both streams.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self.output = ""

    async def says(self, text: str) -> None:
        """Wait until it has said that."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WAIT_S_MAX):
            while text not in self.output:
                line = await self._process.stdout.readline()
                assert line, f"it ended before it said {text!r}:\n{self.output}"
                self.output += line.decode()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def interrupted(self) -> int:
        """Press Ctrl-C until it ends; gives its exit code."""
        ended = asyncio.create_task(self._process.wait())
        async with asyncio.timeout(WAIT_S_MAX):
            while not ended.done():
                self.signal(signal.SIGINT)
                await asyncio.wait([ended], timeout=AGAIN_S)
        return ended.result()

    async def exit_code(self) -> int:
        """Wait for its end."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WAIT_S_MAX):
            self.output += (await self._process.stdout.read()).decode()
            return await self._process.wait()


@asynccontextmanager
async def started(*arguments: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Running]:
    """A command in a process of its own, in the current directory; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "streamstate.cli", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **(env or {})},
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
