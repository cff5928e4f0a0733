"""Texts that end in the store must be Unicode: one that is not would fail a commit, and with it the engine."""

from __future__ import annotations

from collections.abc import Mapping

from streamstate.errors import UsageError
from streamstate.journal import Command


def check_text(text: str, what: str) -> None:
    """Raises UsageError for a text with half a surrogate pair, as an undecodable file name has."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{what} {text!r} is not Unicode text: {error.reason} at character {error.start}; "
            "decode the bytes that it came from, or replace what cannot be decoded"
        ) from None


def check_texts(command: Command) -> None:
    """Raises UsageError for a command whose texts cannot be stored."""
    check_text(command.name, f"the name of a {command.kind}")
    if command.key is not None:
        check_text(command.key, "the key")
    for name, option in (command.options or {}).items():
        if isinstance(option, str):
            check_text(option, name.replace("_", " "))
        elif isinstance(option, Mapping):
            for header, value in option.items():
                check_text(header, "a header's name")
                check_text(value, f"the header {header!r}")
