"""What application and checker agree on: which events do what. Imports nothing, so that neither leans on the other."""

from __future__ import annotations

SUBSCRIPTION = "durability"
PARTITIONS = 4
STEP_EVERY = 6
REST_EVERY = 12  # behind a step, so that kills find its result in a journal and the rest must be replayed
REST_MS = 50
REMIND_EVERY = 5
CALL_EVERY = 9
TELLERS = 8
REMIND_AFTER_MS = 60
MESSAGE_ID_HEADER = "streamstate-message-id"


def has_step(sequence: int) -> bool:
    return sequence % STEP_EVERY == 0


def has_rest(sequence: int) -> bool:
    return sequence % REST_EVERY == 0


def has_reminder(sequence: int) -> bool:
    return sequence % REMIND_EVERY == 0


def has_call(sequence: int) -> bool:
    return sequence % CALL_EVERY == 0
