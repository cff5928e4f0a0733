"""The pytest fixture `streamstate_env`: makes environments that end with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest_asyncio

from streamstate.app import App
from streamstate.testing._clock import VirtualClock
from streamstate.testing._environment import Environment

MakeEnvironment = Callable[..., Awaitable[Environment[VirtualClock]]]


@pytest_asyncio.fixture
async def streamstate_env() -> AsyncIterator[MakeEnvironment]:
    """Starts Apps in a test; what it gives is called with an App and takes the arguments of Environment."""
    async with AsyncExitStack() as stack:

        async def make(app: App, **options: Any) -> Environment[VirtualClock]:
            clock = options.pop("clock", None) or VirtualClock()
            return await stack.enter_async_context(Environment(app, clock=clock, **options))

        yield make
