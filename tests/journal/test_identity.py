"""Identities never change: what is pinned here is in the data directories of users."""

from __future__ import annotations

import functools
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamstate.errors import UsageError
from streamstate.journal import (
    awakeable_id,
    child_identity,
    fresh_identity,
    keyed_identity,
    parse_awakeable_id,
    record_identity,
    seed_of,
    workflow_identity,
)
from tests.properties import examples

SAMPLES = {
    "record": record_identity("shop", "orders", "orders-v1", "AAAA", 3, 42),
    "child": child_identity("inv_parent", 7),
    "keyed": keyed_identity("Cart", "pay", "k1", "evt-1"),
    "workflow": workflow_identity("SignUp", "u1"),
    "fresh": fresh_identity("nonce"),
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("record", "inv_7sbfxvfht7jpyojj3idt2f33wa"),
        ("child", "inv_nm2vlgeeik5f3a73zb4tjjlvou"),
        ("keyed", "inv_ocfsty5qzxrurk3kgwxmjmw4qq"),
        ("workflow", "inv_ysdydzjldfydwklepfajhekuta"),
        ("fresh", "inv_zk52zqesmesjg3nhuykxw44dfa"),
    ],
)
def test_an_identity_is_the_one_of_every_release_before(name: str, expected: str) -> None:
    assert SAMPLES[name] == expected


def test_the_seed_of_an_invocation_is_the_one_of_every_release_before() -> None:
    assert seed_of("inv_parent") == 10_880_004_915_266_699_444


def test_the_id_of_an_awakeable_is_the_one_of_every_release_before() -> None:
    assert awakeable_id("inv_abc234", 5) == "sign_abc234_5"


@pytest.mark.parametrize("name", SAMPLES)
def test_an_identity_is_inv_and_26_letters_of_base32(name: str) -> None:
    assert re.fullmatch(r"inv_[a-z2-7]{26}", SAMPLES[name])


def test_identities_of_different_sorts_never_meet() -> None:
    assert len(set(SAMPLES.values())) == len(SAMPLES)
    assert keyed_identity("a", "b", "", "") != workflow_identity("a", "b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (record_identity("a", "bc", "t", "", 0, 0), record_identity("ab", "c", "t", "", 0, 0)),
        (record_identity("a", "b", "t", "", 1, 11), record_identity("a", "b", "t", "", 11, 1)),
        (record_identity("a", "b", "t", "1", 1, 1), record_identity("a", "b", "t1", "", 1, 1)),
        (record_identity("a", "b", "t", "id1", 0, 0), record_identity("a", "b", "t", "id2", 0, 0)),
        (keyed_identity("a", "b", "c", "d"), keyed_identity("a", "b", "cd", "")),
        (keyed_identity("a", "b", "", "1:x"), keyed_identity("a", "b", "1:x", "")),
        (keyed_identity("1:a", "", "", ""), keyed_identity("", "1:a", "", "")),
        (child_identity("inv_1", 23), child_identity("inv_12", 3)),
        (workflow_identity("a", "bc"), workflow_identity("ab", "c")),
    ],
)
def test_a_part_cannot_run_into_the_next_one(one: str, other: str) -> None:
    assert one != other


PARTS = st.text(alphabet="a1:é\ud800", max_size=3)


FOUR = st.tuples(PARTS, PARTS, PARTS, PARTS)
NUMBERS = st.integers(0, 12) | st.integers(0, 2**63)
RECORDS = st.tuples(PARTS, PARTS, PARTS, PARTS, NUMBERS, NUMBERS)


@examples(80)
@given(FOUR, FOUR)
def test_identities_are_equal_exactly_when_their_parts_are(
    one: tuple[str, str, str, str], other: tuple[str, str, str, str]
) -> None:
    assert (keyed_identity(*one) == keyed_identity(*other)) == (one == other)


@examples(80)
@given(RECORDS, RECORDS)
def test_records_have_one_identity_exactly_when_all_that_names_them_is_the_same(
    one: tuple[str, str, str, str, int, int], other: tuple[str, str, str, str, int, int]
) -> None:
    assert (record_identity(*one) == record_identity(*other)) == (one == other)
    assert record_identity(*one) == record_identity(*one)


@examples(80)
@given(st.lists(NUMBERS, min_size=1, max_size=5), st.lists(NUMBERS, min_size=1, max_size=5))
def test_descendants_are_one_invocation_exactly_when_their_line_is_the_same(one: list[int], other: list[int]) -> None:
    def descendant(line: list[int]) -> str:
        return functools.reduce(child_identity, line, SAMPLES["record"])

    assert (descendant(one) == descendant(other)) == (one == other)


@examples(80)
@given(PARTS, PARTS, PARTS, PARTS, NUMBERS)
def test_no_two_sorts_of_identity_meet(one: str, two: str, three: str, four: str, number: int) -> None:
    """I2: a record, a keyed call, a workflow, a child and a fresh one are never taken for each other."""
    found = {
        record_identity(one, two, three, four, number, number),
        keyed_identity(one, two, three, four),
        workflow_identity(one, two),
        child_identity(one, number),
        fresh_identity(one),
    }
    assert len(found) == 5


@examples(80)
@given(st.text(max_size=8) | st.text("sign_0123456789ab²", max_size=16))
def test_any_text_is_the_id_of_an_awakeable_or_refused(text: str) -> None:
    try:
        invocation, index = parse_awakeable_id(text)
    except UsageError as refused:
        assert repr(text) in str(refused)
    else:
        assert parse_awakeable_id(awakeable_id(invocation, index)) == (invocation, index)


def test_the_offsets_of_a_partition_all_have_their_own_identity() -> None:
    ids = {record_identity("a", "s", "t", "", p, o) for p, o in itertools.product(range(30), range(200))}
    assert len(ids) == 30 * 200


def test_seeds_differ_between_invocations() -> None:
    assert len({seed_of(child_identity("inv_p", index)) for index in range(1_000)}) == 1_000


@examples(80)
@given(st.integers(min_value=0, max_value=10**9), st.integers(min_value=0, max_value=10**9))
def test_the_id_of_an_awakeable_names_its_invocation_and_command(parent: int, index: int) -> None:
    invocation = child_identity("inv_p", parent)
    assert parse_awakeable_id(awakeable_id(invocation, index)) == (invocation, index)


@pytest.mark.parametrize(
    "text",
    ["", "sign_", "sign_abc", "sign__1", "sign_abc_", "sign_abc_x", "sign_abc_-1", "sign_abc_²", "inv_abc_1", "abc_1"],
)
def test_what_is_not_the_id_of_an_awakeable_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_awakeable_id(text)
    assert str(caught.value) == (
        f"{text!r} is not the id of an awakeable; expected what ctx.awakeable(...).id gave, sign_…_N"
    )
