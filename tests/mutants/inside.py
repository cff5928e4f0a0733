"""A process that lives in a copy of the tree, and runs pytest there again and again, each time in a child of its own.

    python -m tests.mutants.inside FOLDER

What the tests need of others is imported once, before the first child is made: that is most of the time of a short
run. Nothing of ours is, as each child has another mutant. It is a plugin of pytest as well, and refuses to run tests of
anything but the copy, though the tree may be installed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, settings

COPY = "STREAMSTATE_MUTANTS_COPY"
OURS = ("streamstate", "streamstate_kafka", "food_ordering")

_OTHERS = (
    "apsw.ext",
    "asyncio",
    "confluent_kafka.admin",
    "hypothesis.stateful",
    "msgspec",
    "pydantic",
    "rich.console",
    "rich.live",
    "rich.table",
    "testcontainers.core.container",
    "xml.dom.minidom",
)


def pytest_configure() -> None:
    # That there is a failing example is enough; the smallest one would take most of the time.
    settings.register_profile("mutants", database=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
    settings.load_profile("mutants")
    copy = Path(os.environ[COPY])
    for name in OURS:
        module = importlib.import_module(name)
        if module.__file__ is None or not Path(module.__file__).is_relative_to(copy):
            raise pytest.UsageError(f"{name} is {module.__file__}, and not in {copy}")


def serve() -> None:
    """For each line of arguments, as JSON, a run of pytest; its exit code is the answer, its output goes to stderr."""
    for name in _OTHERS:
        importlib.import_module(name)
    early = [name for name in sys.modules if name.partition(".")[0] in OURS]
    assert not early, f"imported before there is a mutant: {early}"
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.setsid()
            os.dup2(2, 1)
            code = int(pytest.main(json.loads(line)))
            sys.stdout.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
