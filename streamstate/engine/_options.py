"""What can be set about the engine."""

from __future__ import annotations

from concurrent.futures import Executor as Threads
from dataclasses import dataclass, field
from datetime import timedelta

from streamstate.engine._clock import Clock, SystemClock
from streamstate.engine._keys import SLOTS_MAX
from streamstate.engine._room import FREE_BYTES_MIN


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What can be set about the engine.

    Attributes:
        always_replay: drop handlers from memory whenever they block; for tests.
        writes_in_thread: commit in a thread of its own; False commits inline, for a store in memory.
        keys_in_memory_max: idle keys kept in memory.
        live_in_memory_max: suspended invocations kept in memory; others come back by replay.
        threads: runs sync actions; None is the loop's own pool.
        switch_interval: how long one thread may keep the interpreter while another waits for it; set for the process
            while the engine runs (`sys.setswitchinterval`), None leaves Python's 5 ms. Shorter ones make commits under
            full load quicker, and cost throughput; longer ones the reverse.
        drain: how long a stop waits for what is running.
        free_bytes_min: while the store's volume has less room, sources pause and calls and sends of clients are refused
            (Unavailable); 0 never looks.
        watchdog: how long the event loop may stand still before the log names the handler that has it, with its stack;
            None does not watch.
    """

    always_replay: bool = False
    writes_in_thread: bool = True
    keys_in_memory_max: int = SLOTS_MAX
    live_in_memory_max: int = 10_000
    threads: Threads | None = None
    switch_interval: timedelta | None = None
    drain: timedelta = timedelta(seconds=10)
    free_bytes_min: int = FREE_BYTES_MIN
    watchdog: timedelta | None = timedelta(seconds=1)
    clock: Clock = field(default_factory=SystemClock)
