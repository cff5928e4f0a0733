"""Clients and producers: they hand in the plan's inputs, and look at what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, Protocol

import msgspec

from streamstate.engine import Engine, LocalClient
from streamstate.errors import CommitFailedError, InvocationPausedError, TerminalError, Unavailable
from tests.simulation.audit import Audit
from tests.simulation.handlers import EXCLUSIVE, SERVICES, TARGETS, TOPICS
from tests.simulation.interpreter import checksum
from tests.simulation.outside import Topics
from tests.simulation.plans import Input, Plan
from tests.simulation.witness import Witness


class Place(Protocol):
    """What clients need of the world."""

    plan: Plan
    witness: Witness
    audit: Audit
    topics: Topics
    engine: Engine
    client: LocalClient

    def spawn(self, what: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]: ...


class Clients:
    """See the module.

    Attributes:
        acknowledged: inputs that were accepted durably, by their place in the plan.
        answers: what clients were told, by tag. order: (first, second) pairs of one key, the second handed in after
            the first was acknowledged.
    """

    def __init__(self, world: Place) -> None:
        self._world = world
        self._inputs = world.plan.inputs
        self._waiting: dict[int, str] = dict.fromkeys(range(len(self._inputs)), "to come")
        self._handed_in: dict[int, bool] = {}
        self.acknowledged: set[int] = set()
        self.answers: dict[str, str | None] = {}
        self.order: list[tuple[Input, Input]] = []

    def begin(self) -> None:
        """A process has started: hand in what is to come, and again what was not acknowledged and has an identity."""
        loop = asyncio.get_running_loop()
        for number, each in enumerate(self._inputs):
            state = self._waiting.get(number)
            if state == "sent":
                if each.idem is None and each.to != "main":
                    # It may have happened or not; a client that cares sends an idempotency key.
                    del self._waiting[number]
                    continue
                self._world.witness.count("inputs handed in again")
            elif state is None:
                continue
            when_s = max(each.at_ms / 1000, loop.time())
            if each.by == "record":
                if state == "to come":
                    loop.call_at(when_s, self._produce, number, each)
            else:
                loop.call_at(when_s, self._hand_in, number, each)

    def waiting(self) -> list[str]:
        """Inputs that wait for something."""
        return [f"{self._inputs[number].script.tag} {state}" for number, state in self._waiting.items()]

    def _produce(self, number: int, each: Input) -> None:
        del self._waiting[number]
        self.acknowledged.add(number)
        record = self._world.topics.append(TOPICS[each.to], each.key, msgspec.json.encode(each.script))
        self._world.witness.note("record", each.script.tag, record.partition, record.offset)

    def _hand_in(self, number: int, each: Input) -> None:
        self._waiting[number] = "sent"
        self._world.spawn(self._ask(number, each))

    async def _ask(self, number: int, each: Input) -> None:
        world, tag = self._world, each.script.tag
        key: Any = {} if each.to == "work" else {"key": each.key}
        handler = TARGETS[each.to]
        world.witness.note("client", each.by, each.to, tag)
        is_first, self._handed_in[number] = number not in self._handed_in, True
        for before in self.acknowledged if is_first else ():
            other = self._inputs[before]
            if (other.to, other.key) == (each.to, each.key) and other.by != "record":
                self.order.append((other, each))
        result: str | None
        try:
            if each.by == "send":
                delay = None if each.delay_ms is None else timedelta(milliseconds=each.delay_ms)
                if each.delay_ms is not None:
                    world.witness.delay(tag, each.delay_ms, each.idem is not None)
                sent = await world.client.send(handler, each.script, delay=delay, idempotency_key=each.idem, **key)
                self._acknowledge(number, each, sent.is_new)
                result = await sent.result()
            else:
                result = await world.client.call(handler, each.script, idempotency_key=each.idem, **key)
        except TerminalError as error:
            self._fail(each, error)
        except InvocationPausedError:
            world.witness.count("clients told of a pause")
        except (CommitFailedError, Unavailable):
            return
        else:
            self._answer(each, result)
        self._waiting.pop(number, None)

    def _acknowledge(self, number: int, each: Input, is_new: bool) -> None:
        """I1: what is acknowledged is durable."""
        world, tag = self._world, each.script.tag
        world.witness.note("accepted", tag, "" if is_new else "before")
        self.acknowledged.add(number)
        if not is_new:
            world.witness.count("duplicates found")
        elif each.to in EXCLUSIVE and not world.audit.is_durable(tag, (SERVICES[each.to], each.key)):
            world.witness.violate("I1", f"{tag} is acknowledged, and there is no trace of it on disk")

    def _fail(self, each: Input, error: TerminalError) -> None:
        """I1, and state before a terminal error stays: its last line is durable when the client hears of it."""
        world, tag = self._world, each.script.tag
        world.witness.note("failed", tag, error.code)
        if each.to not in EXCLUSIVE or error.message != f"planned end of {tag}":
            return
        if not any(f"f {tag}" in ledger for ledger in self._ledgers(each)):
            world.witness.violate("I1", f"the failure of {tag} is told, and not in its ledger on disk")

    def _answer(self, each: Input, result: str | None) -> None:
        """I1: what a client is told is durable; and it is the answer to its question."""
        world, tag = self._world, each.script.tag
        world.witness.note("answered", tag, result)
        world.witness.count("answers")
        ledgers = self._ledgers(each)
        if result is None:
            if not any(f"e {tag}" in ledger for ledger in ledgers):
                world.witness.violate("I1", f"the end of {tag} is told, and not in its ledger on disk")
            return
        answered, _, place = result.partition("@")
        if answered != tag and each.to != "main":
            world.witness.violate("I2", f"{tag} was answered {result!r}")
            return
        if each.to in EXCLUSIVE:
            if not any(ledger[int(place) : int(place) + 1] == [f"e {answered}"] for ledger in ledgers):
                world.witness.violate("I1", f"{tag} was answered {result!r}, and it is not in the ledger on disk")
        elif each.to in ("look", "tell"):
            length, _, check = place.partition(":")
            if not any(checksum(ledger[: int(length)]) == int(check) for ledger in [*ledgers, []]):
                world.witness.violate("I1", f"{tag} has read {result!r}, and it is not what is on disk")
        before = self.answers.setdefault(tag, result)
        if before != result and each.to in EXCLUSIVE:
            world.witness.violate("I2", f"{tag} was answered {before!r}, and then {result!r}")

    def _ledgers(self, each: Input) -> list[list[str]]:
        return self._world.audit.lines().get((SERVICES[each.to], each.key), [])
