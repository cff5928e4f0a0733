"""The payment provider books once per token."""

from __future__ import annotations

from pathlib import Path

import pytest

from food_ordering.bank import CREDIT_CENTS_MAX, Bank, Booking, CardDeclined, read_books


@pytest.fixture
def books(tmp_path: Path) -> Path:
    return tmp_path / "bank.db"


def test_a_charge_asked_for_twice_is_booked_once(books: Path) -> None:
    bank = Bank()
    with bank.opened(books):
        bank.charge("t1", "order-1", 1090)
        bank.charge("t1", "order-1", 1090)
    assert read_books(books) == [Booking("t1", "order-1", 1090, refunded=False, requests=2)]


def test_a_refund_is_given_once(books: Path) -> None:
    bank = Bank()
    with bank.opened(books):
        bank.charge("t1", "order-1", 1090)
        assert bank.refund("t1")
        assert not bank.refund("t1")
    assert [booking.refunded for booking in read_books(books)] == [True]


def test_what_was_never_charged_is_not_refunded(books: Path) -> None:
    bank = Bank()
    with bank.opened(books):
        assert not bank.refund("t1")
    assert read_books(books) == []


def test_a_card_is_declined_beyond_its_credit(books: Path) -> None:
    bank = Bank()
    with bank.opened(books), pytest.raises(CardDeclined, match=r"declined for 500\.01"):
        bank.charge("t1", "order-1", CREDIT_CENTS_MAX + 1)
    assert read_books(books) == []


def test_the_books_outlive_the_client(books: Path) -> None:
    for token in ("t1", "t2"):
        bank = Bank()
        with bank.opened(books):
            bank.charge(token, "order-1", 100)
    assert [booking.token for booking in read_books(books)] == ["t1", "t2"]


def test_a_closed_bank_says_who_opens_it() -> None:
    with pytest.raises(RuntimeError, match="build_app"):
        Bank().refund("t1")
