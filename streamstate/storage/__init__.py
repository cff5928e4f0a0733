"""The durable store: one port, a SQLite store and an in-memory twin."""

from streamstate.storage._backup import BackupFacts, read_backup, take_backup
from streamstate.storage._doctor import examine
from streamstate.storage._doctor_values import Examination, Finding, Known, Level, Waiting
from streamstate.storage._history import HistoryRow, Restored, Upgraded
from streamstate.storage._memory import MemoryStore
from streamstate.storage._ports import InvocationReader, Store
from streamstate.storage._reseal import reseal
from streamstate.storage._restore import OutboxChoice, RestoreFacts, restore_backup
from streamstate.storage._rows import (
    Batch,
    Header,
    InvocationRow,
    ObjectId,
    Origin,
    OutboxMessage,
    PositionId,
    PromiseId,
    Status,
    TimerId,
    TimerRow,
    WaiterId,
)
from streamstate.storage._space import OnVolume
from streamstate.storage._sqlite import SqliteStore

__all__ = [
    "BackupFacts",
    "Batch",
    "Examination",
    "Finding",
    "Header",
    "HistoryRow",
    "InvocationReader",
    "InvocationRow",
    "Known",
    "Level",
    "MemoryStore",
    "ObjectId",
    "OnVolume",
    "Origin",
    "OutboxChoice",
    "OutboxMessage",
    "PositionId",
    "PromiseId",
    "RestoreFacts",
    "Restored",
    "SqliteStore",
    "Status",
    "Store",
    "TimerId",
    "TimerRow",
    "Upgraded",
    "WaiterId",
    "Waiting",
    "examine",
    "read_backup",
    "reseal",
    "restore_backup",
    "take_backup",
]
