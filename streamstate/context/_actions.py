"""The actions of steps: what `ctx.run` is given, checked and bound."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, get_args, get_origin, get_type_hints

from streamstate.context._turns import Action
from streamstate.definitions import Step
from streamstate.errors import UsageError
from streamstate.serde import Serde, serde_for

_ANY = serde_for(object)


def bind_action(
    step: object, action: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Action, Callable[[bytes], Any]]:
    """The action of a step, and what decodes its result.

    Raises:
        UsageError: no step, or no function.
    """
    chosen = Step(step) if isinstance(step, str) else step
    if not isinstance(chosen, Step):
        raise UsageError(f"ctx.run takes the name of the step or a Step first, then its action; got {step!r} first")
    if not callable(action):
        if isinstance(action, Coroutine):
            action.close()  # or Python would warn that it was never awaited
        raise UsageError(
            f"ctx.run({chosen.name!r}, …) takes a function and its arguments, got {action!r}; "
            "write ctx.run(name, action, argument), not ctx.run(name, action(argument))"
        )
    serde = chosen.serde or _step_serde(action)
    return Action(chosen, action, args, dict(kwargs), serde.encode), serde.decode


def _step_serde(action: Callable[..., Any]) -> Serde[Any]:
    """The serde of what an action returns, from its annotation; JSON of any value without one."""
    function = action.func if isinstance(action, functools.partial) else action
    function = getattr(function, "__func__", function)
    if "return" not in getattr(function, "__annotations__", ()):
        return _ANY
    return _annotated_serde(function)


@functools.lru_cache(maxsize=1024)
def _annotated_serde(function: Callable[..., Any]) -> Serde[Any]:
    try:
        returned = get_type_hints(function)["return"]
    except NameError:
        # Names that only a type checker sees; the value itself still has to fit JSON.
        return _ANY
    if get_origin(returned) in (Awaitable, Coroutine):
        returned = get_args(returned)[-1]
    return serde_for(returned)
