"""The payment provider: an outside system with books of its own.

It keeps what real providers promise: a charge and a refund are booked once per idempotency token, however often they
are asked for, and refunding what was never charged changes nothing. Its books are a file that outlives any crash of
the application, so that an auditor can compare them with the orders.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from streamstate import TerminalError

CREDIT_CENTS_MAX = 50_000  # more than this on one order, and the card is declined

_SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    token TEXT PRIMARY KEY, order_id TEXT NOT NULL, cents INTEGER NOT NULL,
    refunded INTEGER NOT NULL DEFAULT 0, requests INTEGER NOT NULL DEFAULT 1
) STRICT
"""
_CHARGE = """
INSERT INTO charges (token, order_id, cents) VALUES (?, ?, ?)
ON CONFLICT (token) DO UPDATE SET requests = requests + 1
"""
_REFUND = "UPDATE charges SET refunded = 1 WHERE token = ? AND refunded = 0"


class CardDeclined(TerminalError):
    """The customer's card does not cover the price."""

    default_code = 402


class Booking(msgspec.Struct, frozen=True):
    """One line of the books; `requests` counts how often the same charge was asked for."""

    token: str
    order_id: str
    cents: int
    refunded: bool
    requests: int


class Bank:
    """A client of the provider; closed until `opened`."""

    def __init__(self) -> None:
        self._books: Path | None = None

    @contextmanager
    def opened(self, books: Path) -> Iterator[None]:
        """Use the books in this file, which is made if it is not there."""
        with _connect(books) as connection:
            connection.execute(_SCHEMA)
        self._books = books
        try:
            yield
        finally:
            self._books = None

    def charge(self, token: str, order_id: str, cents: int) -> None:
        """Book a charge.

        Raises:
            CardDeclined: the price is more than the card covers.
        """
        if cents > CREDIT_CENTS_MAX:
            raise CardDeclined(f"the card was declined for {cents / 100:.2f}")
        with _connect(self._open_books()) as connection:
            connection.execute(_CHARGE, (token, order_id, cents))

    def refund(self, token: str) -> bool:
        """Give back what was charged under this token; False where there is nothing (more) to give back."""
        with _connect(self._open_books()) as connection:
            return connection.execute(_REFUND, (token,)).rowcount == 1

    def _open_books(self) -> Path:
        if self._books is None:
            raise RuntimeError("the bank is closed; build the App with build_app, whose lifespan opens it")
        return self._books


def read_books(books: Path) -> list[Booking]:
    """All bookings, as an auditor sees them."""
    with _connect(books) as connection:
        rows = connection.execute("SELECT token, order_id, cents, refunded, requests FROM charges ORDER BY rowid")
        return [Booking(token, order, cents, bool(refunded), asked) for token, order, cents, refunded, asked in rows]


@contextmanager
def _connect(books: Path) -> Iterator[sqlite3.Connection]:
    # A connection for each request: steps run in a thread pool, and a connection belongs to its thread.
    connection = sqlite3.connect(books, timeout=30)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


bank = Bank()
