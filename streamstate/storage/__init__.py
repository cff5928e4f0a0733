"""The durable store: one port, a SQLite store and an in-memory twin."""

from streamstate.storage._memory import MemoryStore
from streamstate.storage._ports import InvocationReader, Store
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
from streamstate.storage._sqlite import SqliteStore

__all__ = [
    "Batch",
    "Header",
    "InvocationReader",
    "InvocationRow",
    "MemoryStore",
    "ObjectId",
    "Origin",
    "OutboxMessage",
    "PositionId",
    "PromiseId",
    "SqliteStore",
    "Status",
    "Store",
    "TimerId",
    "TimerRow",
    "WaiterId",
]
