"""What must hold when all is over: a model of counters, sequences and sets over the ledgers on disk."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cached_property

from tests.simulation.audit import tag_of
from tests.simulation.handlers import EXCLUSIVE, SERVICES
from tests.simulation.plans import Add, Op, Publish, Script, Timeout, Together, Try, all_scripts
from tests.simulation.world import World

Ident = tuple[str, str]


class Oracle:
    """Judges one finished run; what it finds goes to the witness of the run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._witness = world.witness
        self._ledgers = world.audit.lines()
        self._scripts = {script.tag: (by, to, key, script) for by, to, key, script in all_scripts(world.plan)}
        self._places: dict[str, list[tuple[Ident, int, int]]] = defaultdict(list)
        self._lines: dict[str, list[str]] = defaultdict(list)
        for ident, ledgers in self._ledgers.items():
            for number, ledger in enumerate(ledgers):
                for place, line in enumerate(ledger):
                    what, _, rest = line.partition(" ")
                    if what == "b":
                        self._places[rest].append((ident, number, place))
                    if what in "befwcsp":
                        self._lines[rest.split("/")[0].split(" ")[0]].append(line)

    def judge(self) -> None:
        for ident, ledgers in self._ledgers.items():
            for ledger in ledgers:
                self._judge_ledger(ident, ledger)
        for tag, (by, to, key, script) in self._scripts.items():
            if to in EXCLUSIVE:
                self._judge_invocation(tag, by, to, key, script)
        self._judge_inputs()
        self._judge_children()
        self._judge_messages()

    def is_excused(self, tag: str) -> bool:
        """Whether it was cancelled, killed or refused, or one that called it was; a send outlives its sender."""
        while tag:
            if tag in self._witness.struck:
                return True
            by, to, key, _ = self._scripts.get(tag, ("", "", "", None))
            parent = tag.rpartition(".")[0]
            if by != "call" or not parent:
                return False
            if (parent, SERVICES[to], key) in self._witness.refused:
                return True
            tag = parent
        return False

    def _judge_ledger(self, ident: Ident, ledger: list[str]) -> None:
        """I4: the lines of one invocation stand together. I5: the counters are what the lines say."""
        seen: set[str] = set()
        present = ""
        sums: Counter[str] = Counter()
        for line in ledger:
            what, _, rest = line.partition(" ")
            if what == "b":
                if rest in seen:
                    self._witness.violate("I2", f"{rest} has begun twice on {ident}: {ledger}")
                seen.add(rest)
                present = rest
            elif what in "efwcspr" and rest.split("/")[0].split(" ")[0] != present:
                self._witness.violate("I4", f"{line!r} stands among the lines of {present} on {ident}: {ledger}")
            if what == "w":
                _, name, n = rest.split(" ")
                sums[name] += int(n)
        if self._ledgers[ident][-1] is ledger and ident in self._world.audit.ledgers:
            state = self._world.content.state.get(ident, {})
            for name in ("x", "y"):
                if int(state.get(name, b"0")) != sums[name]:
                    self._witness.violate("I5", f"{name} of {ident} is {state.get(name)!r}, its lines say {sums[name]}")

    def _judge_invocation(self, tag: str, by: str, to: str, key: str, script: Script) -> None:
        """I2 and I9: what has begun, began once, on its key, and ended; nothing was left out on the way."""
        begun = self._places.get(tag, [])
        if len(begun) > 1 and not self._is_kept_too_short(tag):
            self._witness.violate("I2", f"{tag} has begun {len(begun)} times: {begun}")
        for ident, _, _ in begun:
            if ident != (SERVICES[to], key):
                self._witness.violate("I2", f"{tag} was for {SERVICES[to]}/{key}, and began on {ident}")
        lines = self._lines[tag]
        is_ended = f"e {tag}" in lines
        if begun and not is_ended and f"f {tag}" not in lines and not self.is_excused(tag):
            self._witness.violate("I9", f"{tag} has begun and not ended: {lines}")
        if is_ended:
            for kind, at, rest in _certain(script.ops):
                line = f"{kind} {tag}/{at}{rest}"
                if line not in lines:
                    self._witness.violate("I5", f"{tag} has ended well without {line!r}: {lines}")

    def _is_kept_too_short(self, tag: str) -> bool:
        """With an idempotency key: once within its retention, and the wall clock may have jumped past it."""
        return any(fault.kind == "jump" and fault.n > 300_000 for fault in self._world.plan.faults)

    def _judge_inputs(self) -> None:
        """I1: what was acknowledged has happened. I4: in the order in which it was accepted."""
        inputs = self._world.plan.inputs
        for number in self._world.clients.acknowledged:
            each = inputs[number]
            if each.to == "main":
                runs = [
                    tag for tag in self._places if self._scripts.get(tag, ("", "", "", None))[1:3] == ("main", each.key)
                ]
                if not runs and not any(
                    other.key == each.key and self.is_excused(other.script.tag) for other in inputs
                ):
                    self._witness.violate("I1", f"workflow {each.key} was acknowledged, and has never begun")
            else:
                self._judge_effect(each.script.tag, each.to, "was acknowledged")
        for first, second in self._world.clients.order:
            if not {first.script.tag, second.script.tag} & (self._repeated | self._witness.delayed):
                self._judge_order(first.script.tag, second.script.tag)
        for records in self._world.topics.of("items"):
            before: dict[bytes, str] = {}
            for record in records:
                tag, key = tag_of(record.value), record.key or b""
                if key in before:
                    self._judge_order(before[key], tag)
                before[key] = tag

    def _judge_effect(self, tag: str, to: str, how: str) -> None:
        if self.is_excused(tag):
            return
        if to in EXCLUSIVE:
            if tag not in self._places:
                self._witness.violate("I1", f"{tag} {how}, and has never begun")
        elif not self._witness.begun[tag]:
            self._witness.violate("I1", f"{tag} {how}, and has never begun")

    def _judge_order(self, first: str, second: str) -> None:
        before, after = self._places.get(first), self._places.get(second)
        if first != second and before and after and before[0] > after[0] and before[0][0] == after[0][0]:
            self._witness.violate("I4", f"{second} came after {first}, and began before it: {before[0]}, {after[0]}")

    def _judge_children(self) -> None:
        """I5 and I6: the line of a call or a send and the child are both there, or both not; children keep order."""
        lined: dict[str, str] = {}
        for ident, ledgers in self._ledgers.items():
            sent: dict[tuple[str, str], str] = {}
            for ledger in ledgers:
                for line in ledger:
                    kind, _, rest = line.partition(" ")
                    if kind not in ("c", "s"):
                        continue
                    child = rest.split(" ")[1]
                    lined[child] = line
                    self._witness.count("children")
                    to = self._scripts[child][1]
                    if to != "main":
                        self._judge_effect(child, to, f"is in a line of {ident}")
                    self._judge_child_order(child, sent)
        for tag in [*self._places, *self._witness.begun]:
            parent = tag.rpartition(".")[0]
            has_line = parent not in self._scripts or self._scripts[parent][1] not in EXCLUSIVE or tag in lined
            # A handler may run in memory before its turn is durable; on disk, it must not be alone.
            if not has_line and (tag in self._places or tag in self._world.audit.known):
                self._witness.violate("I5", f"{tag} is there, and {parent} has no line of it")

    def _judge_child_order(self, child: str, sent: dict[tuple[str, str], str]) -> None:
        _, to, key, _ = self._scripts[child]
        if to not in EXCLUSIVE or self._world_delays(child):
            return
        place = SERVICES[to], key
        if place in sent:
            self._judge_order(sent[place], child)
        sent[place] = child

    def _world_delays(self, tag: str) -> bool:
        return tag in self._witness.delayed or tag in self._repeated

    @cached_property
    def _repeated(self) -> set[str]:
        """Tags that several inputs share by their idempotency key: accepted when the first of them was."""
        counted = Counter(script.tag for _, _, _, script in all_scripts(self._world.plan))
        return {tag for tag, count in counted.items() if count > 1}

    def _judge_messages(self) -> None:
        """I1, I2, I5: each line of a publish is one message in the topic."""
        values: Counter[str] = Counter(
            (message.value or b"").decode().strip('"') for message in self._world.sink.messages.values()
        )
        for value, count in values.items():
            if count > 1:
                self._witness.violate("I2", f"{value} was published {count} times")
        lines = {
            rest
            for ledger in self._lines.values()
            for kind, _, rest in (x.partition(" ") for x in ledger)
            if kind == "p"
        }
        for missing in sorted(lines - set(values)):
            self._witness.violate("I1", f"{missing} is in a ledger, and was never published")
        for value in sorted(set(values) - lines):
            if self._scripts[value.split("/")[0]][1] in EXCLUSIVE:
                self._witness.violate("I5", f"{value} was published, and is in no ledger")
        self._witness.count("messages", len(values))


def _certain(ops: tuple[Op, ...]) -> list[tuple[str, str, str]]:
    """Lines that a script which has ended well has written: (kind, place, the rest)."""
    found: list[tuple[str, str, str]] = []
    for op in ops:
        match op:
            case Add():
                found.append(("w", op.at, f" {op.name} {op.n}"))
            case Publish():
                found.append(("p", op.at, ""))
            case Together() if op.how != "race":
                for branch in op.branches:
                    found.extend(_certain(branch))
            case Together() | Timeout() | Try():
                pass
            case _:
                pass
    return found
