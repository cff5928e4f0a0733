"""Which serde an annotation asks for."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import pytest

from streamstate.errors import SerdeError
from streamstate.serde import BytesSerde, EmptySerde, StringSerde, serde_for


@pytest.mark.parametrize(
    ("annotation", "content_type"),
    [
        (int, "application/json"),
        (str, "application/json"),
        (object, "application/json"),
        (Any, "application/json"),
        (bytearray, "application/json"),
        (bytes, "application/octet-stream"),
        (Annotated[bytes, "raw"], "application/octet-stream"),
        (bytes | None, "application/octet-stream"),
        (Optional[bytes], "application/octet-stream"),  # noqa: UP045 - the other spelling is under test
        (None, None),
        (type(None), None),
    ],
)
def test_an_annotation_has_the_content_type(annotation: object, content_type: str | None) -> None:
    assert serde_for(annotation).content_type == content_type


def test_bytes_stay_as_they_are() -> None:
    serde = serde_for(bytes)
    assert serde.encode(b"\x00\xff") == b"\x00\xff"
    assert serde.encode(memoryview(b"\x00\xff")) == b"\x00\xff"
    assert serde.decode(b"") == b""


def test_a_string_is_not_taken_for_bytes() -> None:
    with pytest.raises(SerdeError, match="bytes wanted, got str: 'text'"):
        BytesSerde().encode("text")  # type: ignore[arg-type]  # the mistake under test


def test_optional_bytes_take_a_tombstone() -> None:
    serde = serde_for(bytes | None)
    assert serde.decode(b"") is None
    assert serde.encode(None) == b""
    assert serde.decode(serde.encode(b"raw")) == b"raw"


def test_text_is_utf_8_without_quotes() -> None:
    serde = StringSerde()
    assert serde.content_type == "text/plain"
    assert serde.encode("grün") == b"gr\xc3\xbcn"
    assert serde.decode(b"gr\xc3\xbcn") == "grün"


def test_what_is_not_text_is_refused() -> None:
    with pytest.raises(SerdeError, match=r"not text in UTF-8: .*the data begins b'\\xff'"):
        StringSerde().decode(b"\xff")
    with pytest.raises(SerdeError, match="text wanted, got int 5"):
        StringSerde().encode(5)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(SerdeError, match="surrogates not allowed"):
        StringSerde().encode("\ud800")


def test_nothing_is_no_bytes() -> None:
    serde = serde_for(None)
    assert serde.encode(None) == b""
    assert serde.decode(b"") is None


def test_something_where_nothing_is_expected_is_refused() -> None:
    with pytest.raises(SerdeError, match="no data expected, got b'1'"):
        EmptySerde().decode(b"1")
    with pytest.raises(SerdeError, match="no value expected, got int: 1"):
        EmptySerde().encode(1)  # type: ignore[arg-type]  # the mistake under test
