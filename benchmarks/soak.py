"""`soak`: a mixed load for a while; afterwards memory, open files, threads and disk are what they were before (I12).

The load is put on for a quarter of the time; then everything comes to rest, what was to be kept for a moment is purged,
and the base is taken. Then comes the rest of the load, and the same again.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks._bounds import at_least
from benchmarks._children import data_directory, run
from benchmarks._comparison import Options, Result, Turns, compare

# Of the base: a growth of a tenth may be fragments; one that goes on with the load is far more.
GOALS = {
    "rss_mib": ("MiB", 0.9),
    "live_rows": ("rows", 1.0),
    "database_used_mib": ("MiB", 0.9),
    "disk_mib": ("MiB", 0.7),  # the write-ahead log keeps up to 64 MiB after a burst
    "files": ("files", 1.0),
    "threads": ("threads", 1.0),
    "objects": ("objects", 0.9),
}
EVENTS_PER_S_GOAL = 500  # so that a run that came to nothing is seen

APP = "benchmarks.soak_app"


def measure(options: Options) -> Iterator[Result]:
    """One run: repeating it would say nothing that going on does not."""
    with data_directory() as directory:
        figures = run(APP, options.minutes, directory)
    for name, (unit, goal) in GOALS.items():
        # Rows may be none: one more on both sides, or there is no ratio.
        base, end = (figures[f"{when}_{name}"] + (unit == "rows") for when in ("base", "end"))
        yield compare(f"soak_{name}", unit, goal, Turns([base], [end]), more_is_better=False)
    yield at_least("soak_events", "events/s", EVENTS_PER_S_GOAL, [figures["events_per_s"]])
