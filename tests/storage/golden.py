"""A data directory with one of everything, and its textual form: what the upgrades of the format are tested with.

`python -m tests.storage.golden` writes the directory of the present format to `formats/format_N.sql`. That is done
once, when the format is new; what is there is never written again, since it stands for what users have.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import apsw

from streamstate import EngineOptions
from streamstate.engine import OutboxMessage
from streamstate.storage import SqliteStore
from streamstate.storage._checksums import checksum_vfs, reserve_checksums
from streamstate.testing import Environment, VirtualClock
from streamstate.testing._topics import MemorySink, MemoryTopics

HERE = Path(__file__).parent
FORMATS = HERE / "formats"
DATABASE = "streamstate.db"
WITHOUT_CHECKSUMS = 1  # the format before pages had them; the text does not show it
WAIT_S_MAX = 20.0
_FOLDERS = re.compile(r'File \\"/[^"]*?/(streamstate|lib)/')  # of the machine that wrote it, in tracebacks
_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid"
_MADE_BY = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid"


class _FarTopics(MemoryTopics):
    """A cluster that takes no messages."""

    def sink(self) -> MemorySink:
        return _FarSink(self)


class _FarSink(MemorySink):
    async def publish(self, messages: Sequence[OutboxMessage]) -> None:
        await asyncio.Event().wait()


def relocated_app() -> ModuleType:
    """The App as if its file stood nowhere: journals and failures name the source lines that they come from."""
    app = ModuleType("tests.storage.golden_app")
    sys.modules[app.__name__] = app
    exec(compile((HERE / "golden_app.py").read_text("utf-8"), "golden_app.py", "exec"), vars(app))
    return app


async def fill(golden: ModuleType, directory: Path) -> None:
    """Run the App until the directory holds one of everything, then stop it in the middle."""
    clock = VirtualClock()
    async with Environment(golden.app, clock=clock, store=SqliteStore.open(directory, "golden")) as env:
        for key, wait_hours in (("a", 0), ("b", 2), ("b", 0), ("b", 0), ("c", 0)):
            await env.topic("orders").send(wait_hours, key=key)
        asked = await env.send(golden.ask, key="asked", idempotency_key="once")
        await env.send(golden.attach, asked.id)
        await env.send(golden.relay, "relayed")
        await env.send(golden.flaky, key="failing")
        await env.send(golden.stuck, key="stuck")
        await env.send(golden.pay)
        await env.send(golden.conclude, key="open")
        await env.send(golden.conclude, key="signed")
        await env.idle()
        await env.call(golden.sign, "Ada", key="signed")
        await env.send(golden.refuse, key="refused")
        await env.call(golden.tell, 0, idempotency_key="told")
        await env.idle()
        await clock.advance(timedelta(seconds=31))
        await env.state(golden.orders, "a").set("odd \x00 name", "\N{SNOWMAN}")
    # Then its cluster takes no messages and a step does not end; it is stopped like that.
    store = SqliteStore.open(directory)
    options = EngineOptions(clock=clock, drain=timedelta())
    async with golden.app.embedded(store, options=options, connectors=[_FarTopics()]) as running:
        await running.client.send(golden.tell, 3)
        await running.client.send(golden.work)
        await _until(lambda: len(store.outbox("memory", 0, 10)) == 3)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while not condition():  # noqa: ASYNC110  # the store tells nobody
            await asyncio.sleep(0.01)


def dump(database: Path) -> Iterator[str]:
    """The database as SQL: what made its tables, and their rows, each on a line of its own."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        for pragma in ("application_id", "user_version"):
            yield f"PRAGMA {pragma} = {connection.pragma(pragma)};"
        yield from (f"{sql};" for (sql,) in connection.execute(_MADE_BY).fetchall())
        for (table,) in connection.execute(_TABLES).fetchall():
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall():
                yield f"INSERT INTO {table} VALUES ({', '.join(apsw.format_sql_value(value) for value in row)});"
    finally:
        connection.close()


def load(text: str, directory: Path) -> None:
    """Make a data directory of what `dump` gave."""
    directory.mkdir(parents=True, exist_ok=True)
    connection = apsw.Connection(str(directory / DATABASE), vfs=checksum_vfs())
    try:
        if f"PRAGMA user_version = {WITHOUT_CHECKSUMS};" not in text:
            reserve_checksums(connection)
        connection.execute("BEGIN;" + text + "COMMIT;")
    finally:
        connection.close()


def version_of(directory: Path) -> int:
    """The format's number, as the database says it."""
    connection = apsw.Connection(str(directory / DATABASE), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(connection.pragma("user_version"))
    finally:
        connection.close()


def golden(version: int) -> str:
    return (FORMATS / f"format_{version}.sql").read_text("utf-8")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(fill(relocated_app(), Path(folder)))
        text = "\n".join(dump(Path(folder) / DATABASE)) + "\n"
        version = version_of(Path(folder))
    path = FORMATS / f"format_{version}.sql"
    if path.exists():
        sys.exit(f"{path} is there already: it stands for what users have, and is never written again")
    path.write_text(_FOLDERS.sub(r'File \\"\1/', text), encoding="utf-8")
    sys.stdout.write(f"{path}: pin its fingerprint in test_upgrade.py\n")


if __name__ == "__main__":
    main()
