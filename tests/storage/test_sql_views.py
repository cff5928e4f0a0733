"""The views for people, and the indexes for the readers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamstate.journal import Command, Completion, Failure, Kind, Success
from streamstate.storage import Batch, Origin, SqliteStore, Status
from streamstate.storage._sqlite import _OUTBOX, _STATE, _TIMERS, _WAITERS
from streamstate.storage._sqlite_read import _EXPIRED, _LANE, _RUNNABLE
from tests.storage.rows import accepted, row


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore.open(tmp_path)
    yield store
    store.close()


def _query(store: SqliteStore, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{store.directory}/streamstate.db?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_sys_invocation_shows_target_status_and_where_it_came_from(store: SqliteStore) -> None:
    failed = msgspec.structs.replace(
        row("inv_3", 3, Status.COMPLETED), failure=Failure(409, "sold out"), completed_ms=1_500, attempt=2
    )
    store.commit(
        accepted(
            msgspec.structs.replace(row("inv_1", 1), origin=Origin(subscription="orders")),
            msgspec.structs.replace(row("inv_2", 2, key=""), origin=Origin(caller="inv_1", caller_index=0)),
            failed,
            msgspec.structs.replace(row("inv_4", 4, Status.COMPLETED), result=b"{}"),
        )
    )
    columns = "id, target, invoked_by, invoked_by_id, invoked_by_subscription_id, status, completion_result"
    assert _query(store, f"SELECT {columns} FROM sys_invocation ORDER BY id") == [
        ("inv_1", "Order/k/create", "subscription", None, "orders", "ready", None),
        ("inv_2", "Order/create", "service", "inv_1", None, "ready", None),
        ("inv_3", "Order/k/create", "ingress", None, None, "completed", "failure"),
        ("inv_4", "Order/k/create", "ingress", None, None, "completed", "success"),
    ]
    columns = "created_at, completed_at, retry_count, last_failure, last_failure_error_code, completion_failure"
    assert _query(store, f"SELECT {columns} FROM sys_invocation WHERE id = 'inv_3'") == [
        ("1970-01-01T00:00:01.000Z", "1970-01-01T00:00:01.500Z", 2, "sold out", 409, "sold out")
    ]


def test_sys_journal_shows_the_kind_and_name_of_every_entry(store: SqliteStore) -> None:
    batch = accepted(row("inv_1"))
    batch.journal = {"inv_1": (0, [Command(Kind.RUN, "charge"), Completion(0, Success(b"1"), 5)])}
    store.commit(batch)
    assert _query(store, 'SELECT id, "index", entry_type, name FROM sys_journal ORDER BY "index"') == [
        ("inv_1", 0, "run", "charge"),
        ("inv_1", 1, "completion", "0"),
    ]
    assert _query(store, "SELECT journal_size FROM sys_invocation") == [(2,)]


def test_sys_inbox_shows_who_waits_and_sys_keyed_service_status_who_holds_the_key(store: SqliteStore) -> None:
    store.commit(accepted(row("a", 1, Status.SUSPENDED), row("b", 2, Status.PENDING), row("c", 3, Status.PENDING)))
    inbox = "SELECT service_name, service_key, id, sequence_number FROM sys_inbox ORDER BY sequence_number"
    assert _query(store, inbox) == [("Order", "k", "b", 2), ("Order", "k", "c", 3)]
    assert _query(store, "SELECT * FROM sys_keyed_service_status") == [("Order", "k", "a")]


def test_sys_promise_shows_value_or_failure(store: SqliteStore) -> None:
    store.commit(Batch(promises={("Flow", "a", "p"): Success(b"1"), ("Flow", "a", "q"): Failure(1, "no")}))
    columns = "service_name, service_key, key, completed, completion_success_value, completion_failure"
    assert _query(store, f"SELECT {columns} FROM sys_promise ORDER BY key") == [
        ("Flow", "a", "p", 1, b"1", None),
        ("Flow", "a", "q", 1, None, "no"),
    ]


def test_state_shows_text_only_where_the_value_is_text(store: SqliteStore) -> None:
    values: dict[str, bytes | None] = {"1 json": '{"a":"ä"}'.encode(), "2 plain": b"abc", "3 binary": b"\xff\x00\x80"}
    store.commit(Batch(state={("Order", "a"): values}))
    assert _query(store, "SELECT service_name, service_key, key, value_utf8, value_length FROM state ORDER BY key") == [
        ("Order", "a", "1 json", '{"a":"ä"}', 10),
        ("Order", "a", "2 plain", "abc", 3),
        ("Order", "a", "3 binary", None, 3),
    ]


@pytest.mark.parametrize("view", ["sys_invocation", "sys_journal", "sys_inbox", "sys_promise", "state"])
def test_every_view_can_be_read_when_there_is_nothing(store: SqliteStore, view: str) -> None:
    assert _query(store, f"SELECT * FROM {view}") == []


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        (_LANE, "invocations_lane"),
        (_RUNNABLE, "invocations_runnable"),
        (_EXPIRED, "invocations_expiring"),
        (_TIMERS, "timers_due"),
        (_STATE, "PRIMARY KEY"),
        (_OUTBOX, "PRIMARY KEY"),
        (_WAITERS, "sqlite_autoindex_waiters_1"),
    ],
)
def test_no_reader_scans_a_table(store: SqliteStore, sql: str, index: str) -> None:
    plan = store._writer.execute("EXPLAIN QUERY PLAN " + sql, (None,) * sql.count("?")).fetchall()
    steps = [str(step[3]) for step in plan]
    assert steps[0].startswith("SEARCH")
    assert index in steps[0]
