"""Many rows in few statements.

Every step of SQLite gives up the interpreter's lock, and getting it back from a busy thread costs far more than a row
does; so a batch is written in statements of many rows. Statement texts come in a few sizes, so that they stay cached.
"""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from streamstate.storage._codec import SqlValue

_ROWS = (1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1)
_TEXT_BYTES_MAX = 16_000  # apsw does not cache longer statements
_VALUES_MAX = 32_766  # parameters of one statement, SQLite's default limit

# Statements in the cache of the writing connection: all texts of all `MultiRow`s, so that none is compiled twice.
CACHED_STATEMENTS = 512


class MultiRow:
    """A statement that takes many rows of values.

    Args:
        head: the text before the rows.
        columns: how many values a row has.
        tail: the text after the rows.
        repeatable: a row may be given twice; then what is left over for less than the largest statement is filled up to
            the next size with its last row, which costs less than several statements.
    """

    __slots__ = ("_columns", "_repeatable", "_texts")

    def __init__(self, head: str, columns: int, tail: str = "", *, repeatable: bool = True) -> None:
        row = "(" + ",".join("?" * columns) + ")"
        texts = [(rows, f"{head} {','.join([row] * rows)} {tail}") for rows in _ROWS if rows * columns <= _VALUES_MAX]
        self._columns = columns
        self._repeatable = repeatable
        self._texts = [(rows, text) for rows, text in texts if len(text) <= _TEXT_BYTES_MAX]

    def run(self, cursor: apsw.Cursor, values: Sequence[SqlValue]) -> None:
        """Execute for these rows, given one after the other in one flat sequence."""
        start, end = 0, len(values)
        for place, (rows, text) in enumerate(self._texts):
            width = rows * self._columns
            while end - start >= width:
                cursor.execute(text, values if width == end else values[start : start + width])
                start += width
            if self._repeatable and start < end and (rows == 1 or end - start > width // 2):
                self._run_filled(cursor, values[start:], place)
                return

    def _run_filled(self, cursor: apsw.Cursor, values: Sequence[SqlValue], place: int) -> None:
        rows, text = self._texts[place]
        missing = rows - len(values) // self._columns
        cursor.execute(text, [*values, *(list(values[-self._columns :]) * missing)])


def insert(table: str, columns: Sequence[str], conflict: str = "") -> MultiRow:
    """Insert rows; `conflict` says what to do with those that are there already: by default, fail."""
    head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES"
    return MultiRow(head, len(columns), conflict, repeatable=bool(conflict))


def upsert(table: str, key: Sequence[str], others: Sequence[str]) -> MultiRow:
    """Insert rows, or update those that are there already."""
    updates = ", ".join(f"{column} = excluded.{column}" for column in others)
    return insert(table, (*key, *others), f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {updates}")


def delete(table: str, key: Sequence[str]) -> MultiRow:
    """Delete rows by these columns."""
    return MultiRow(f"DELETE FROM {table} WHERE ({', '.join(key)}) IN (VALUES", len(key), ")")
