"""Makes a plan that fails smaller, as long as it breaks the same rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from tests.simulation.plans import Call, Input, Limits, Op, Plan, Script, Send, Timeout, Together, Try
from tests.simulation.runs import simulate

T = TypeVar("T")

TRIES_MAX = 600
_replace = msgspec.structs.replace


def shrink(plan: Plan, rule: str) -> Plan:
    """The smallest plan found that still breaks this rule."""
    tries = 0
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for candidate in _smaller_plans(plan):
            tries += 1
            if tries > TRIES_MAX:
                return plan
            if any(violation.rule == rule for violation in simulate(candidate).violations):
                plan, is_smaller = candidate, True
                break
    return plan


def _smaller_plans(plan: Plan) -> Iterator[Plan]:
    for inputs in _without_one(plan.inputs):
        yield _replace(plan, inputs=inputs)
    for faults in _without_one(plan.faults):
        yield _replace(plan, faults=faults)
    for number, each in enumerate(plan.inputs):
        for smaller in _smaller_inputs(each):
            yield _replace(plan, inputs=(*plan.inputs[:number], smaller, *plan.inputs[number + 1 :]))
    if plan.limits != Limits():
        yield _replace(plan, limits=Limits())
        for name, value in msgspec.structs.asdict(Limits()).items():
            if getattr(plan.limits, name) != value:
                yield _replace(plan, limits=_replace(plan.limits, **{name: value}))


def _smaller_inputs(each: Input) -> Iterator[Input]:
    if each.idem is not None:
        return  # others share its script
    for script in _smaller_scripts(each.script):
        yield _replace(each, script=script)


def _smaller_scripts(script: Script) -> Iterator[Script]:
    for ops in _smaller_ops(script.ops):
        yield _replace(script, ops=ops)


def _smaller_ops(ops: tuple[Op, ...]) -> Iterator[tuple[Op, ...]]:
    yield from _without_one(ops)
    for number, op in enumerate(ops):
        for replaced in _smaller_op(op):
            yield (*ops[:number], *replaced, *ops[number + 1 :])


def _smaller_op(op: Op) -> Iterator[tuple[Op, ...]]:
    """What may stand in its place."""
    match op:
        case Call() | Send():
            for script in _smaller_scripts(op.script):
                yield (_replace(op, script=script),)
        case Timeout() | Try():
            yield op.body
            for body in _smaller_ops(op.body):
                yield (_replace(op, body=body),)
        case Together():
            yield from op.branches
            for number, branch in enumerate(op.branches):
                for smaller in _smaller_ops(branch):
                    branches = (*op.branches[:number], smaller, *op.branches[number + 1 :])
                    yield (_replace(op, branches=branches),)
        case _:
            return


def _without_one(items: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    if len(items) > 3:
        yield items[: len(items) // 2]
        yield items[len(items) // 2 :]
    for number in range(len(items)):
        yield (*items[:number], *items[number + 1 :])
