"""`python -m streamstate.cli`."""

from streamstate.cli import main

main(prog_name="streamstate")
