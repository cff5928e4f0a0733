"""The logger of an invocation."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from streamstate.context._session import Session

_logger = logging.getLogger("streamstate.invocation")


class InvocationLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds invocation, target and attempt to every record; silent while the journal is replayed."""

    def __init__(self, session: Session) -> None:
        super().__init__(_logger, {})
        self._session = session
        self._invocation = session.invocation_id

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # the name that logging gave it
        return not self._session.is_replaying and self.logger.isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        session = self._session
        own = {
            "invocation_id": self._invocation,
            "target": session.setting.spec.target,
            "object_key": session.key,
            "attempt": session.attempt,
        }
        kwargs["extra"] = {**own, **kwargs.get("extra", {})}
        return msg, kwargs
