"""Runs a scenario over as many processes as its crashes make of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast
from unittest.mock import patch

from streamstate import App, EngineOptions
from streamstate.errors import StreamstateError
from streamstate.storage import Store
from tests.crashes.disks import Disk
from tests.crashes.outside import SETTLE, Answer, Effect, Outside, Plot
from tests.crashes.process import (
    CrashPoint,
    Event,
    Inline,
    Process,
    ProcessDied,
    ProcessStore,
    ProcessTopics,
    SlowWriter,
)
from tests.crashes.witness import Content, Witness

Scenario = Callable[[Outside], Plot]

RUN_S_MAX = 10.0  # of real time; a run takes milliseconds, one that hangs takes for ever
LOOK_S = 0.5  # between two looks whether anything moves
PROCESSES_MAX = 10


class Stuck(AssertionError):  # a verdict
    """Somebody waits for something that will never come."""


class Crash(NamedTuple):
    """A crash that happened, and what it interrupted.

    Attributes:
        batch: what the commit held that was lost, or whose release was.
        unfinished: invocations and messages that were durable and not through.
        is_waiting: a caller had no answer yet. left: how many answers, messages, reports and effects had left before.
    """

    process: int
    point: CrashPoint
    batch: str
    unfinished: int
    is_waiting: bool
    left: int


class Performance(NamedTuple):
    """What came of a run.

    Attributes:
        lives: what happened at the ports, per process, until the program was through.
        content: what the store holds at the end.
    """

    lives: list[list[Event]]
    crashes: list[Crash]
    answers: Mapping[str, Answer]
    effects: Sequence[Effect]
    messages: Sequence[Any]
    content: Content
    problems: list[str]


class Way(NamedTuple):
    """How the engine runs: commits beside the loop or in line; handlers kept in memory, or replayed each turn."""

    is_slow_disk: bool
    always_replay: bool = False


class Stage:
    """One run of a scenario.

    Args:
        plan: where the process of a number crashes; those that are not in it do not crash.
    """

    def __init__(self, scenario: Scenario, disk: Disk, way: Way, plan: Mapping[int, CrashPoint]) -> None:
        self._disk = disk
        self._way = way
        self._plan = plan
        self._witness = Witness()
        self._outside = Outside(self._witness)
        self._plot = scenario(self._outside)
        self._app = App(self._plot.definitions, name="crashes")
        self._processes: list[Process] = []
        self._crashes: list[Crash] = []
        self._lengths: list[int] | None = None
        self._content: Content | None = None

    async def perform(self) -> Performance:
        """Run to the end, however many processes that takes."""
        asyncio.get_running_loop().set_exception_handler(self._complain)
        try:
            async with asyncio.timeout(RUN_S_MAX):
                await self._to_the_end()
        except TimeoutError as error:
            raise AssertionError(f"I9: the run does not come to its end: {self._witness.unfinished}") from error
        await asyncio.sleep(0)
        left = [repr(each) for each in asyncio.all_tasks() - {asyncio.current_task()}]
        if left:
            self._outside.problems.append(f"I12: tasks are left: {left}")
        assert self._content is not None
        assert self._lengths is not None
        outside = self._outside
        return Performance(
            [each.events[:length] for each, length in zip(self._processes, self._lengths, strict=True)],
            self._crashes,
            outside.answers,
            outside.effects,
            outside.delivered,
            self._content,
            outside.problems + [problem for each in self._processes for problem in each.problems],
        )

    async def _to_the_end(self) -> None:
        script = asyncio.create_task(self._script(), name="script")
        try:
            while not script.done():
                await self._live(script)
            await script
        finally:
            script.cancel()
            await asyncio.gather(script, return_exceptions=True)

    async def _script(self) -> None:
        outside = self._outside
        await self._plot.script()
        await outside.advance(SETTLE)
        self._lengths = [len(each.events) for each in self._processes]
        await outside.ask_again()
        await outside.settle()
        process = await outside.process()
        self._content = self._witness.content_of(self._witness.shadow)
        outside.problems += self._witness.differences(process.running.engine.store)
        process.over.set()

    async def _live(self, script: asyncio.Task[None]) -> None:
        """One process, from its start to its end."""
        number = len(self._processes)
        assert number < PROCESSES_MAX, f"process {number} starts; the script does not come to its end"
        process = Process(self._witness, self._disk, self._outside.now(), self._plan.get(number), self._note)
        self._processes.append(process)
        store: Store = self._disk.open()
        self._outside.problems += self._witness.opened(store)
        self._outside.begin(process)
        topics = ProcessTopics(process, self._outside.topics, self._outside.delivered.append)
        options = EngineOptions(
            always_replay=self._way.always_replay,
            writes_in_thread=self._way.is_slow_disk,
            threads=Inline(),
            clock=process.clock,
            watchdog=None,
        )
        try:
            with patch("streamstate.engine._engine.ThreadPoolExecutor", lambda *_: SlowWriter()):
                severed = cast("Store", ProcessStore(process, store))
                running = self._app.embedded(severed, options=options, connectors=[topics])
                async with running as process.running:
                    process.ready.set()
                    if process.is_alive:
                        self._outside.ready()
                        await self._until_over(process, script)
                    else:
                        process.running.engine.fail(ProcessDied())
        except StreamstateError:
            if not process.has_crashed:
                raise
        finally:
            self._outside.ended()

    async def _until_over(self, process: Process, script: asyncio.Task[None]) -> None:
        """Wait for the end of the process; one in which nothing moves any more never ends (I9)."""
        over = asyncio.ensure_future(process.over.wait())
        try:
            seen = -1
            while not (await asyncio.wait({over, script}, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED))[0]:
                is_still = (
                    process.running.engine.is_idle and self._outside.is_waiting and not self._outside.is_advancing
                )
                if is_still and seen == len(process.events):
                    raise Stuck(f"I9: a caller waits, and nothing moves: {self._witness.unfinished}")
                seen = len(process.events)
        finally:
            over.cancel()
            await asyncio.gather(over, return_exceptions=True)

    def _note(self, process: Process, batch: str) -> None:
        assert process.point is not None
        left = sum(event.kind != "commit" for each in self._processes for event in each.events)
        number = len(self._processes) - 1
        unfinished = len(self._witness.unfinished)
        self._crashes.append(Crash(number, process.point, batch, unfinished, self._outside.is_waiting, left))

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        # What a process that died has left behind complains when it is collected.
        if not isinstance(error, ProcessDied) and not isinstance(getattr(error, "__cause__", None), ProcessDied):
            self._outside.problems.append(f"the loop complains: {context}")
