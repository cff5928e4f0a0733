"""A crash at every commit, and at everything that a commit releases, changes nothing; nor does one in the recovery.

By default each place is tried on SQLite, those that differ on the in-memory twin too, and some scenarios two deep.
STREAMSTATE_CRASHES=all tries every statement of a transaction, all ways to run the engine, and all scenarios two deep.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple

import pytest

from tests.crashes import combining, objects, records, stopping, talking
from tests.crashes.disks import Disk, SqliteDisk
from tests.crashes.judge import judge
from tests.crashes.perform import Performance, Scenario, Stage, Way
from tests.crashes.points import Places, Tally, points_of
from tests.crashes.process import CrashPoint, Moment

Judge = Callable[[Performance, Performance], list[str]]

IS_ALL = os.environ.get("STREAMSTATE_CRASHES") == "all"

SCENARIOS = [*objects.SCENARIOS, *records.SCENARIOS, *talking.SCENARIOS, *stopping.SCENARIOS, *combining.SCENARIOS]

# Small ones, so that the square of their places stays small; together they use all kinds of what is stored.
TWO_DEEP = {
    objects.a_step_between_two_writes,
    records.records_that_end_in_their_first_turn,
    records.records_of_a_busy_key_wait_in_its_inbox,
    talking.two_callers_with_one_idempotency_key,
    talking.promises_of_a_workflow,
    combining.sleeps_take_their_time,
}


class Variant(NamedTuple):
    """A store, and a way to run the engine on it."""

    kind: str
    way: Way

    @property
    def name(self) -> str:
        beside = "beside" if self.way.is_slow_disk else "inline"
        return f"{self.kind}-{beside}{'-replayed' if self.way.always_replay else ''}"


# As in production: SQLite with commits beside the loop, and the twin with commits in line.
USUAL = [Variant("sqlite", Way(True)), Variant("memory", Way(False))]
OTHERS = [
    Variant("sqlite", Way(False)),
    Variant("memory", Way(True)),
    Variant("sqlite", Way(True, True)),
    Variant("memory", Way(False, True)),
]


# Found by these scenarios; a line goes when its bug does.
KNOWN = {
    objects.a_step_whose_own_policy_is_spent: "a step's attempts are counted from nothing after a crash in its retry",
    objects.a_handler_that_fails_until_it_is_paused: "likewise",
    stopping.a_paused_invocation_is_resumed: "a replay sets the attempts of a handler back",
    stopping.a_cancelled_invocation_compensates: "after a restart a cancelled caller cancels its child again",
}


def all_of(scenarios: Sequence[Scenario], variants: Sequence[Variant]) -> pytest.MarkDecorator:
    cases = []
    for scenario in scenarios:
        marks = [pytest.mark.xfail(strict=True, reason=KNOWN[scenario])] if scenario in KNOWN else []
        cases += [pytest.param(scenario, each, marks=marks, id=f"{scenario.__name__}-{each.name}") for each in variants]
    return pytest.mark.parametrize(("scenario", "variant"), cases)


class Trial:
    """Runs of one scenario on one store; those with so many crashes are counted."""

    def __init__(
        self,
        scenario: Scenario,
        variant: Variant,
        new_disk: Callable[[str], Disk],
        tally: Tally,
        depth: int,
        judges: Judge = judge,
    ) -> None:
        self._scenario = scenario
        self._depth = depth
        self._variant = variant
        self._new_disk = new_disk
        self._tally = tally
        self._judge = judges
        if IS_ALL:
            self._places = Places.ALL if depth == 1 and variant.kind == "sqlite" else Places.USUAL
        else:
            self._places = Places.USUAL if variant.kind == "sqlite" else Places.FEW

    async def perform(self, plan: Mapping[int, CrashPoint]) -> Performance:
        disk = self._new_disk(self._variant.kind)
        run = await Stage(self._scenario, disk, self._variant.way, plan).perform()
        if isinstance(disk, SqliteDisk):
            self._tally.torn += disk.torn
        disk.clear()
        return run

    async def reference(self) -> Performance:
        run = await self.perform({})
        assert run.problems == []
        assert run.answers or run.messages or run.content.state, "a scenario without an outcome shows nothing"
        return run

    async def crash_everywhere(
        self, reference: Performance, before: Performance, plan: Mapping[int, CrashPoint]
    ) -> AsyncIterator[tuple[Mapping[int, CrashPoint], Performance]]:
        """One crash more than in the run before, at each place behind its last crash."""
        for life, events in enumerate(before.lives):
            if life <= max(plan, default=-1):
                continue
            for point in points_of(events, self._places):
                more = {**plan, life: point}
                run = await self.perform(more)
                assert len(run.crashes) == len(more), f"{more}: crashes are {run.crashes}"
                last = run.crashes[-1]
                assert last.batch or last.unfinished or last.is_waiting or last.left, f"{last} interrupted nothing"
                self._assert_same_until(last.process, point, before, run)
                assert self._judge(reference, run) == [], f"{more}, at {events[point.event]}"
                if len(run.crashes) == self._depth:
                    self._tally.add(self._scenario.__name__, run.crashes, events)
                yield more, run

    def _assert_same_until(self, life: int, point: CrashPoint, before: Performance, run: Performance) -> None:
        """Otherwise the places of one run would not be those of the other."""
        assert run.lives[:life] == before.lives[:life]
        there = point.event + (point.moment is Moment.AFTER)
        assert run.lives[life] == before.lives[life][:there]


@all_of(SCENARIOS, USUAL + (OTHERS if IS_ALL else []))
async def test_a_crash_anywhere_changes_nothing(
    scenario: Scenario, variant: Variant, new_disk: Callable[[str], Disk], tally: Tally
) -> None:
    trial = Trial(scenario, variant, new_disk, tally, depth=1)
    reference = await trial.reference()
    count = 0
    async for _ in trial.crash_everywhere(reference, reference, {}):
        count += 1
    assert count > sum(len([event for event in events if event.what]) for events in reference.lives), "and one in front"


@pytest.mark.timeout(7200 if IS_ALL else 120)
@all_of(
    [each for each in SCENARIOS if IS_ALL or each in TWO_DEEP],
    [Variant("sqlite", Way(True)), Variant("memory", Way(False))] if IS_ALL else [Variant("memory", Way(True))],
)
async def test_a_crash_anywhere_in_the_recovery_changes_nothing_either(
    scenario: Scenario, variant: Variant, new_disk: Callable[[str], Disk], tally: Tally
) -> None:
    trial = Trial(scenario, variant, new_disk, tally, depth=2)
    reference = await trial.reference()
    count = 0
    async for plan, once in trial.crash_everywhere(reference, reference, {}):
        async for _ in trial.crash_everywhere(reference, once, plan):
            count += 1
    assert count > 0


def judge_unconfirmed(_reference: Performance, run: Performance) -> list[str]:
    """What was confirmed happened once, in order; what was not, at most once."""
    noted = json.loads(run.content.state.get(("Log", "k"), {}).get("log", b"[]"))
    problems = list(run.problems)
    if sorted(set(noted)) != noted or not run.answers.keys() <= set(noted):
        problems.append(f"confirmed were {sorted(run.answers)}, and noted {noted}")
    return problems


@pytest.mark.parametrize("variant", USUAL, ids=lambda variant: variant.name)
async def test_what_was_confirmed_without_identity_happens_once_and_what_was_not_at_most_once(
    variant: Variant, new_disk: Callable[[str], Disk], tally: Tally
) -> None:
    scenario = objects.sends_without_identity
    trial = Trial(scenario, variant, new_disk, tally, depth=1, judges=judge_unconfirmed)
    reference = await trial.reference()
    runs = [run async for _, run in trial.crash_everywhere(reference, reference, {})]
    noted = [json.loads(run.content.state["Log", "k"]["log"]) for run in runs]
    assert any(len(texts) < 3 for texts in noted), "none was lost before it was accepted"
    assert any(set(texts) > run.answers.keys() for texts, run in zip(noted, runs, strict=True)), "none was unconfirmed"
