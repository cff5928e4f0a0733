"""What a mutant is: a bug of one line that the suite must see."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Mutant(NamedTuple):
    """One bug.

    Attributes:
        name: what the bug does, in a few words.
        file: below the root of the repository.
        old: text that is in it exactly once; lines around the changed one only where it needs them to be found.
        new: what takes its place.
        rule: the invariant of the architecture (I1 to I12), or the rule of the module, that it breaks.
        tests: what pytest is given to see it, below `tests`; with `::` a single test.
    """

    name: str
    file: str
    old: str
    new: str
    rule: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """The text of its file with the bug in it.

        Raises:
            ValueError: the old text is not there exactly once, or the bug changes nothing.
        """
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"mutant {self.name}: its old text is {found} times in {self.file}, expected once")
        if self.old == self.new:
            raise ValueError(f"mutant {self.name} changes nothing")
        return text.replace(self.old, self.new)
