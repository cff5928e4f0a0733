"""Benchmarks: each compares two things measured in turns in one run. See `python -m benchmarks --help`."""
