"""What annotations mean: names in strings are looked up where the author stood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType, SimpleNamespace
from typing import Any, get_args, get_type_hints

from streamstate.definitions._sites import user_frame
from streamstate.errors import SerdeError
from streamstate.serde import Serde, serde_for


@dataclass(frozen=True, slots=True)
class Scope:
    """The names that an annotation may use.

    `module` is alive, so what a module defines later is found later; `local` is what a function had defined so far.
    """

    module: dict[str, Any]
    local: Mapping[str, Any]

    @classmethod
    def of(cls, frame: FrameType, module: dict[str, Any] | None = None) -> Scope:
        local = {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)
        return cls(frame.f_globals if module is None else module, local)

    def resolve(self, annotation: object) -> object:
        """The annotation without strings in it. Raises NameError for a name that is not defined (yet)."""
        holder = SimpleNamespace(__annotations__={"it": annotation})
        return get_type_hints(holder, self.module, dict(self.local), include_extras=True)["it"]

    def serde(self, annotation: object) -> Serde[Any]:
        """The serde of the annotation.

        Raises NameError for a name that is not defined (yet), in the annotation or in a type that it names, and
        SerdeError if nothing can carry the type.
        """
        try:
            return serde_for(self.resolve(annotation))
        except SyntaxError as error:
            raise SerdeError(f"{annotation!r} is no type: {error}") from error
        except SerdeError as error:
            if isinstance(error.__cause__, NameError):
                raise error.__cause__ from error
            raise


class LazyType:
    """The T of `StateKey[T](…)` and `Topic[T](…)`, which typing tells the instance only after it is made."""

    __slots__ = ("_scope",)

    def __init__(self) -> None:
        self._scope = Scope.of(user_frame())

    def serde_of(self, instance: object) -> Serde[Any]:
        """The serde of T; JSON of any value where there is no T. Raises as `Scope.serde` does."""
        arguments = get_args(getattr(instance, "__orig_class__", None))
        return self._scope.serde(arguments[0] if arguments else object)
