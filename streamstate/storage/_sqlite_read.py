"""What the engine reads of SQLite: every call is one statement, hence one moment of the store (S3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import apsw
import msgspec

from streamstate.errors import StorageCorruptError
from streamstate.journal import Entry
from streamstate.storage._codec import Row, SqlValue, entry_of, invocation_of
from streamstate.storage._rows import InvocationRow, TimerRow
from streamstate.storage._schema import IN_LANE, INVOCATION_COLUMNS, IS_RUNNABLE, MAY_EXPIRE
from streamstate.storage._sqlite_errors import storage_error

T = TypeVar("T")

_COLUMNS = ", ".join(INVOCATION_COLUMNS)
_KEYS_SIZES = (1, 8, 64, 512)  # how many keys one statement takes
_OCCUPIED = f"SELECT DISTINCT key FROM invocations WHERE service = ? AND key IN ({{keys}}) AND {IN_LANE}"
_GET = f"SELECT {_COLUMNS} FROM invocations WHERE id = ?"
_JOURNAL = "SELECT position, entry FROM journal WHERE invocation = ? ORDER BY position"
_TIMERS = "SELECT fire_ms, invocation, kind, idx, attempt FROM timers WHERE invocation = ? ORDER BY fire_ms, kind, idx"
_LANE = (
    f"SELECT {_COLUMNS} FROM invocations WHERE service = ? AND key = ? AND seq > ? AND {IN_LANE} ORDER BY seq LIMIT ?"
)
_RUNNABLE = f"SELECT {_COLUMNS} FROM invocations WHERE seq > ? AND {IS_RUNNABLE} ORDER BY seq LIMIT ?"
_EXPIRED = f"SELECT id FROM invocations WHERE expires_ms <= ? AND {MAY_EXPIRE} ORDER BY expires_ms, id LIMIT ?"


class Reading:
    """The reading connection, with errors by our names.

    Args:
        connection: used by one thread at a time.
        path: the database file, for messages.
    """

    __slots__ = ("_connection", "_path")

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def rows(self, sql: str, values: tuple[SqlValue, ...] = ()) -> list[Row]:
        """All rows of a query.

        Raises:
            StorageCorruptError: the file does not read back.
            StorageError: any other failure.
        """
        try:
            return self._connection.execute(sql, values).fetchall()
        except apsw.Error as error:
            raise storage_error(error, self._path) from error

    def rows_of_keys(self, sql: str, service: str, keys: Sequence[str]) -> list[Row]:
        """All rows of a query for a service and any of these keys, `{keys}` in its text; in several moments if many.

        Raises:
            StorageCorruptError, StorageError: as for `rows`.
        """
        found: list[Row] = []
        for start in range(0, len(keys), _KEYS_SIZES[-1]):
            asked = list(keys[start : start + _KEYS_SIZES[-1]])
            size = next(size for size in _KEYS_SIZES if size >= len(asked))
            # A few sizes, filled up with the last key: so the statements stay compiled.
            asked += asked[-1:] * (size - len(asked))
            found += self.rows(sql.format(keys=",".join("?" * size)), (service, *asked))
        return found

    def decode(self, what: str, decoder: Callable[[Row], T], rows: list[Row]) -> list[T]:
        """Values of rows.

        Raises:
            StorageCorruptError: a row holds what streamstate never wrote.
        """
        try:
            return [decoder(row) for row in rows]
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            raise self.corrupt(f"{what} does not decode: {error}") from error

    def corrupt(self, problem: str) -> StorageCorruptError:
        return StorageCorruptError(f"{self._path}: {problem}; restore a backup of the whole directory")

    def close(self) -> None:
        self._connection.close()


class SqliteInvocations:
    """Reads invocations and what belongs to them."""

    __slots__ = ("_reading",)

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def get(self, invocation: str) -> InvocationRow | None:
        found = self._invocations(_GET, (invocation,))
        return found[0] if found else None

    def journal(self, invocation: str) -> list[Entry]:
        """Its entries, in order.

        Raises:
            StorageCorruptError: an entry is missing in the middle, or does not decode.
        """
        rows = self._reading.rows(_JOURNAL, (invocation,))
        if rows and rows[-1][0] != len(rows) - 1:
            raise self._reading.corrupt(
                f"the journal of {invocation} has {len(rows)} entries, but its last position is {rows[-1][0]}"
            )
        return self._reading.decode(f"the journal of {invocation}", _entry_of_row, rows)

    def timers(self, invocation: str) -> list[TimerRow]:
        """Its timers, by fire_ms, kind and index."""
        return [TimerRow(*row) for row in self._reading.rows(_TIMERS, (invocation,))]

    def lane(self, service: str, key: str, after_seq: int, limit: int) -> list[InvocationRow]:
        return self._invocations(_LANE, (service, key, after_seq, limit))

    def occupied(self, service: str, keys: Sequence[str]) -> set[str]:
        return {cast(str, row[0]) for row in self._reading.rows_of_keys(_OCCUPIED, service, keys)}

    def runnable(self, after_seq: int, limit: int) -> list[InvocationRow]:
        return self._invocations(_RUNNABLE, (after_seq, limit))

    def expired(self, now_ms: int, limit: int) -> list[str]:
        return [cast(str, row[0]) for row in self._reading.rows(_EXPIRED, (now_ms, limit))]

    def _invocations(self, sql: str, values: tuple[SqlValue, ...]) -> list[InvocationRow]:
        return self._reading.decode("an invocation", invocation_of, self._reading.rows(sql, values))


def _entry_of_row(row: Row) -> Entry:
    return entry_of(row[1])
