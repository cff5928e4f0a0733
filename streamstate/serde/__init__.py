"""Bytes and values: the port between them, and the serdes that annotations ask for."""

from streamstate.serde._json import JsonSerde
from streamstate.serde._plain import BytesSerde, EmptySerde, StringSerde
from streamstate.serde._select import serde_for
from streamstate.serde._serde import Serde, quick_codec

__all__ = ["BytesSerde", "EmptySerde", "JsonSerde", "Serde", "StringSerde", "quick_codec", "serde_for"]
