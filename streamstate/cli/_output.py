"""Tables for terminals of any width, and for pipes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

PIPED_COLUMNS = 1_000  # without a terminal nothing needs to be folded


@dataclass(frozen=True, slots=True)
class Rows:
    """A table: the first cell of a row names it."""

    columns: Sequence[str]
    cells: Sequence[Sequence[str]]


def console() -> Console:
    """Standard output, as it is now; text is shown as it is, without markup."""
    is_sized = sys.stdout.isatty() or "COLUMNS" in os.environ
    width = None if is_sized else PIPED_COLUMNS
    return Console(file=sys.stdout, width=width, markup=False, emoji=False, highlight=False)


def show(to: Console, rows: Rows) -> None:
    """Print a table, or, where it does not fit, each row as a small block; then an empty line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in rows.columns:
        table.add_column(column.upper(), no_wrap=True)
    for cells in rows.cells:
        table.add_row(*cells)
    if to.measure(table, options=to.options.update(max_width=PIPED_COLUMNS)).maximum <= to.width:
        to.print(table)
    else:
        _show_blocks(to, rows)
    to.print()


def _show_blocks(to: Console, rows: Rows) -> None:
    for name, *cells in rows.cells:
        to.print(Text(f"{rows.columns[0]} {name}", style="bold"), overflow="fold")
        for column, cell in zip(rows.columns[1:], cells, strict=True):
            if cell:
                to.print(Padding(Text(f"{column}: {cell}", overflow="fold"), (0, 0, 0, 2), expand=False))
