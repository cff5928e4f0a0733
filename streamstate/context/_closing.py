"""Leaving memory: a handler that waits is dropped where it stands, and so are its tasks.

Their `finally` blocks run, each with the context variables of its own task. What those raise is told to the log alone:
the next replay stands where they began, and runs them again.
"""

from __future__ import annotations

import logging
from typing import Protocol

from streamstate.context._loop import HandlerLoop
from streamstate.context._tasks import RootTask

_logger = logging.getLogger("streamstate.handler")

CLOSES_MAX = 100  # of one coroutine: each await in its finally blocks costs one more
ROUNDS_MAX = 100  # finally blocks may start tasks, whose finally blocks may start tasks


class _Closable(Protocol):
    def close(self) -> None: ...


def drop_tasks(loop: HandlerLoop, root: RootTask, label: str) -> None:
    """Close all that the loop runs; the loop must be the running one, and refuse the handler's verbs."""
    for _ in range(ROUNDS_MAX):
        tasks = loop.live_tasks()
        loop.tasks.clear()
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001  # dropped on purpose
            task.context.run(_close, task.get_coro(), label)
        if not root.is_done:
            root.get_context().run(_close, root, label)
        if not loop.tasks:
            break
    loop.ready.clear()


def _close(what: _Closable, label: str) -> None:
    for _ in range(CLOSES_MAX):
        try:
            what.close()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # of a finally block, see the module
            # It may have raised, or have awaited something and not be closed yet: the next round tells.
            _logger.debug("%s left memory inside a finally block: %r", label, error)
        else:
            return
    _logger.warning("%s does not let go: its finally blocks awaited %d times while it left memory", label, CLOSES_MAX)
