"""A whole App in a test: the real engine, no network, and by default no disk."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Generic, Self, TypeVar, cast, overload

from streamstate.app import App, Running
from streamstate.definitions import DefaultedStateKey, StateKey, Topic, VirtualObject, Workflow
from streamstate.engine import Clock, EngineOptions, LocalClient, SystemClock
from streamstate.errors import UsageError
from streamstate.serde import serde_for
from streamstate.storage import MemoryStore, Store
from streamstate.testing._clock import VirtualClock
from streamstate.testing._topics import MemoryTopics, TestTopic

T = TypeVar("T")
C = TypeVar("C", bound=Clock)

_ANY = serde_for(object)


class Environment(LocalClient, Generic[C]):
    """Runs an App for a test, and calls it like a client.

    Args:
        app: its own connectors are replaced by topics in memory.
        clock: a VirtualClock lets the test decide when time passes.
        always_replay: take every handler out of memory whenever it blocks, so that each turn is a replay; finds code
            that is not deterministic.
        store: where to keep the data; by default in memory.
    """

    clock: C

    @overload
    def __init__(
        self: Environment[SystemClock], app: App, *, always_replay: bool = False, store: Store | None = None
    ) -> None: ...
    @overload
    def __init__(self, app: App, *, clock: C, always_replay: bool = False, store: Store | None = None) -> None: ...
    def __init__(self, app: App, *, clock: Any = None, always_replay: bool = False, store: Store | None = None) -> None:
        self.app = app
        self.clock = cast("C", clock if clock is not None else SystemClock())
        self._store: Store = store if store is not None else MemoryStore()
        self._always_replay = always_replay
        self._stack = AsyncExitStack()
        clusters = list(app.connectors) or ["memory"]
        self._clusters = {name: MemoryTopics(name, self.clock.now_ms) for name in clusters}
        self._running: Running | None = None

    async def __aenter__(self) -> Self:
        options = EngineOptions(
            always_replay=self._always_replay,
            writes_in_thread=not isinstance(self._store, MemoryStore),
            clock=self.clock,
            watchdog=None,  # a test stands still in a debugger, and must not differ from run to run
        )
        embedded = self.app.embedded(self._store, options=options, connectors=list(self._clusters.values()))
        self._running = await self._stack.enter_async_context(embedded)
        super().__init__(self._running.engine)
        if isinstance(self.clock, VirtualClock):
            self.clock.attach(self.idle)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    @property
    def running(self) -> Running:
        """The running App.

        Raises:
            UsageError: before `async with`.
        """
        if self._running is None:
            raise UsageError("the environment is not running; use: async with Environment(app) as env")
        return self._running

    async def idle(self) -> None:
        """Wait until nothing is runnable: all records taken in, all turns ended, all commits and messages done."""
        engine = self.running.engine
        while True:
            await engine.idle()
            stopped = {name for name, feed in self.running.feeds.items() if feed.error is not None}
            if engine.is_idle and all(topics.is_drained(stopped) for topics in self._clusters.values()):
                return
            await asyncio.sleep(0)

    def topic(self, topic: str | Topic[Any], *, cluster: str | None = None) -> TestTopic:
        """A topic, to send to and to look into."""
        chosen: Topic[Any] = Topic(topic) if isinstance(topic, str) else topic
        name = cluster or chosen.cluster or next(iter(self._clusters))
        if name not in self._clusters:
            raise UsageError(f"no cluster {name!r}; there are: {', '.join(self._clusters)}")
        return TestTopic(self._clusters[name], chosen)

    def state(self, definition: VirtualObject | Workflow, key: str) -> ObjectState:
        """The state of one object, to look at and to set up."""
        return ObjectState(self.running, definition.name, key)


class ObjectState:
    """The state of one object, from a test's side."""

    def __init__(self, running: Running, service: str, key: str) -> None:
        self._running = running
        self._ident = (service, key)

    @overload
    async def get(self, key: DefaultedStateKey[T], /) -> T: ...
    @overload
    async def get(self, key: StateKey[T], /) -> T | None: ...
    @overload
    async def get(self, key: str, /) -> Any: ...
    async def get(self, key: StateKey[Any] | str, /) -> Any:
        """The value of a key of the state."""
        values = self._running.engine.object_state(*self._ident)
        if isinstance(key, str):
            raw = values.get(key)
            return None if raw is None else _ANY.decode(raw)
        return key.decode_optional(values.get(key.name))

    async def set(self, key: StateKey[T] | str, value: T, /) -> None:
        """Set a key of the state.

        Raises:
            UsageError: a handler holds the object now.
        """
        raw = _ANY.encode(value) if isinstance(key, str) else key.encode(value)
        await self._running.engine.patch_state(*self._ident, {key if isinstance(key, str) else key.name: raw})

    async def clear(self, key: StateKey[Any] | str, /) -> None:
        """Remove a key of the state."""
        await self._running.engine.patch_state(*self._ident, {key if isinstance(key, str) else key.name: None})

    async def all(self) -> Mapping[str, bytes]:
        """Everything, as stored."""
        return self._running.engine.object_state(*self._ident)
