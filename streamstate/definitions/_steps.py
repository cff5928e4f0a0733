"""A durable step with options of its own."""

from __future__ import annotations

from typing import Any

import msgspec

from streamstate.definitions._checks import check_retry
from streamstate.definitions._policies import RetryPolicy
from streamstate.definitions._sites import user_site
from streamstate.errors import DefinitionError
from streamstate.serde import Serde


class Step(msgspec.Struct, frozen=True):
    """Names one durable step of a handler: `ctx.run(Step("charge", retry=RetryPolicy(...)), charge, card)`.

    Attributes:
        name: what journals, logs and messages call it.
        retry: how often to try it before it fails with TerminalError; None is the handler's own policy.
        serde: of the action's result; None is picked from the action's annotation.

    Raises DefinitionError for an empty name or a policy that cannot be followed.
    """

    name: str
    retry: RetryPolicy | None = None
    serde: Serde[Any] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise DefinitionError(f"a step needs a name — at {user_site()}")
        if self.retry is not None:
            check_retry(self.retry, user_site())
