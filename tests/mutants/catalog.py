"""All mutants: bugs of one line that the suite must see, most of them once somebody's real ones.

Not among them, since there is no place for them here: bugs of a log of our own (a batch that is cut at the recovery,
a record in the middle that is passed over), since the log is SQLite's; and of a consumer group's rebalance, since
partitions are assigned by ourselves.
"""

from __future__ import annotations

from tests.mutants import of_durability, of_engine, of_replay

MUTANTS = (*of_engine.MUTANTS, *of_durability.MUTANTS, *of_replay.MUTANTS)
