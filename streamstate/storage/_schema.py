"""The SQLite schema: what the tables hold, the indexes that the readers need, and the views that people read.

Q1  Every field of a row has a column of its own, so that SQL can ask for it.
Q2  Payloads are BLOBs; what is nested is JSON text where SQL looks into it, and msgpack where only streamstate does.
Q3  The views carry the names and columns of Restate's tables, as far as there is something to show.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x73747374  # "stst" in the header of the file; tells our files from other SQLite databases
BACKUP_ID: Final = 0x73747362  # "stsb": a backup, which becomes a data directory by being restored, and not by a copy

# Raised with every change below, together with a step in _upgrade.py and a golden directory for its tests.
FORMAT_VERSION: Final = 2

INVOCATION_COLUMNS: Final = (
    "id",
    "seq",
    "service",
    "handler",
    "key",
    "lane",
    "status",
    "input",
    "origin",
    "created_ms",
    "started_ms",
    "attempt",
    "first_failed_ms",
    "due_ms",
    "failure",
    "result",
    "completed_ms",
    "expires_ms",
    "idempotency_key",
    "undelivered",
)

# A query uses a partial index only when it repeats the index's own condition.
IN_LANE: Final = "lane = 1 AND status NOT IN ('completed', 'scheduled')"
IS_RUNNABLE: Final = "status IN ('pending', 'ready', 'running')"
IS_LIVE: Final = "status <> 'completed'"
MAY_EXPIRE: Final = "status = 'completed' AND expires_ms IS NOT NULL"

TABLES: Final = """
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    directory_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    clock_ms INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    outbox_position INTEGER NOT NULL,
    commits INTEGER NOT NULL,
    checkpointed INTEGER NOT NULL
) STRICT;
CREATE TABLE object_state (
    service TEXT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (service, key, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE positions (
    subscription TEXT NOT NULL,
    topic TEXT NOT NULL,
    topic_id TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (subscription, topic, topic_id, partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE invocations (
    id TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL,
    service TEXT NOT NULL,
    handler TEXT NOT NULL,
    key TEXT NOT NULL,
    lane INTEGER NOT NULL,
    status TEXT NOT NULL,
    input BLOB NOT NULL,
    origin TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    started_ms INTEGER,
    attempt INTEGER NOT NULL,
    first_failed_ms INTEGER,
    due_ms INTEGER,
    failure TEXT,
    result BLOB,
    completed_ms INTEGER,
    expires_ms INTEGER,
    idempotency_key TEXT,
    undelivered INTEGER NOT NULL
) STRICT;
CREATE TABLE journal (
    invocation TEXT NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    entry BLOB NOT NULL,
    PRIMARY KEY (invocation, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE timers (
    invocation TEXT NOT NULL,
    kind TEXT NOT NULL,
    idx INTEGER NOT NULL,
    fire_ms INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (invocation, kind, idx)
) STRICT, WITHOUT ROWID;
CREATE TABLE trials (
    invocation TEXT PRIMARY KEY,
    deaths INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE waiters (
    ordinal INTEGER PRIMARY KEY,
    awaited TEXT NOT NULL,
    invocation TEXT NOT NULL,
    idx INTEGER NOT NULL,
    UNIQUE (awaited, invocation, idx)
) STRICT;
CREATE TABLE promises (
    service TEXT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB,
    failure TEXT,
    PRIMARY KEY (service, key, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE outbox (
    cluster TEXT NOT NULL,
    position INTEGER NOT NULL,
    topic TEXT NOT NULL,
    key BLOB,
    value BLOB,
    headers BLOB NOT NULL,
    message_id TEXT NOT NULL,
    PRIMARY KEY (cluster, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE application (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    name TEXT NOT NULL
) STRICT;
CREATE TABLE history (
    ordinal INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    event TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    detail TEXT NOT NULL
) STRICT;
"""

INDEXES: Final = f"""
CREATE INDEX invocations_lane ON invocations (service, key, seq) WHERE {IN_LANE};
CREATE INDEX invocations_runnable ON invocations (seq) WHERE {IS_RUNNABLE};
CREATE INDEX invocations_live ON invocations (seq) WHERE {IS_LIVE};
CREATE INDEX invocations_expiring ON invocations (expires_ms, id) WHERE {MAY_EXPIRE};
CREATE INDEX timers_due ON timers (fire_ms, invocation, kind, idx);
CREATE INDEX waiters_invocation ON waiters (invocation);
"""


def _moment(column: str) -> str:
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000.0, 'unixepoch')"


# Text that is not UTF-8 makes SQL clients fail on the whole row, so value_utf8 is shown only for what is surely text.
VIEWS: Final = f"""
CREATE VIEW sys_invocation AS SELECT
    id,
    CASE key WHEN '' THEN service || '/' || handler ELSE service || '/' || key || '/' || handler END AS target,
    service AS target_service_name,
    key AS target_service_key,
    handler AS target_handler_name,
    idempotency_key,
    CASE
        WHEN origin ->> 'subscription' <> '' THEN 'subscription'
        WHEN origin ->> 'caller' <> '' THEN 'service'
        ELSE 'ingress'
    END AS invoked_by,
    nullif(origin ->> 'caller', '') AS invoked_by_id,
    nullif(origin ->> 'subscription', '') AS invoked_by_subscription_id,
    (SELECT count(*) FROM journal WHERE journal.invocation = invocations.id) AS journal_size,
    seq AS sequence_number,
    {_moment("created_ms")} AS created_at,
    CASE status WHEN 'scheduled' THEN {_moment("due_ms")} END AS scheduled_start_at,
    {_moment("started_ms")} AS running_at,
    {_moment("completed_ms")} AS completed_at,
    {_moment("expires_ms")} AS expires_at,
    attempt AS retry_count,
    CASE status WHEN 'backing-off' THEN {_moment("due_ms")} END AS next_retry_at,
    failure ->> 2 AS last_failure,
    failure ->> 1 AS last_failure_error_code,
    status,
    CASE WHEN status <> 'completed' THEN NULL WHEN failure IS NULL THEN 'success' ELSE 'failure' END
        AS completion_result,
    CASE status WHEN 'completed' THEN failure ->> 2 END AS completion_failure
FROM invocations;
CREATE VIEW sys_journal AS SELECT
    invocation AS id,
    position AS "index",
    kind AS entry_type,
    name,
    entry AS raw,
    length(entry) AS raw_length
FROM journal;
CREATE VIEW sys_inbox AS SELECT
    service AS service_name,
    key AS service_key,
    id,
    seq AS sequence_number,
    {_moment("created_ms")} AS created_at
FROM invocations WHERE {IN_LANE} AND status = 'pending';
CREATE VIEW sys_keyed_service_status AS SELECT
    service AS service_name,
    key AS service_key,
    id AS invocation_id
FROM invocations WHERE {IN_LANE} AND status <> 'pending';
CREATE VIEW sys_promise AS SELECT
    service AS service_name,
    key AS service_key,
    name AS key,
    1 AS completed,
    value AS completion_success_value,
    failure ->> 2 AS completion_failure
FROM promises;
CREATE VIEW state AS SELECT
    service AS service_name,
    key AS service_key,
    name AS key,
    CASE WHEN json_valid(CAST(value AS TEXT)) OR CAST(value AS TEXT) NOT GLOB '*[^ -~]*' THEN CAST(value AS TEXT) END
        AS value_utf8,
    value,
    length(value) AS value_length
FROM object_state;
"""

TABLE_NAMES: Final = frozenset(
    {
        "meta",
        "object_state",
        "positions",
        "invocations",
        "journal",
        "timers",
        "waiters",
        "promises",
        "outbox",
        "application",
        "history",
        "trials",
    }
)
