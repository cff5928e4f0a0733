"""The command line: `streamstate --help`, or `python -m streamstate.cli --help` where it is not installed."""

from streamstate.cli._main import main

__all__ = ["main"]
