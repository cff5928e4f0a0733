"""How much the property tests try: little and always the same by default, more and other things when asked.

    STREAMSTATE_PROPERTIES=50 python -m pytest tests -k properties --timeout 3600

tries 50 times as many examples, different ones in every run; a failure prints what brings it back.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("STREAMSTATE_PROPERTIES", "1"))


def examples(count: int, *, steps: int = 30) -> settings:
    """The settings of one property.

    Args:
        count: examples of a plain run.
        steps: of each of them, where it is stateful.
    """
    return settings(
        max_examples=count * FACTOR,
        stateful_step_count=steps,
        derandomize=FACTOR == 1,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
