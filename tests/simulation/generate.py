"""From a seed to a plan. Each run has its own mixture: its verbs, how hot the keys are, its faults, small bounds."""

from __future__ import annotations

import random

import msgspec

from tests.simulation.plans import (
    Add,
    Awake,
    Call,
    Fail,
    Fault,
    Input,
    Limits,
    Look,
    Op,
    Plan,
    Promise,
    Publish,
    Run,
    Script,
    Send,
    Signal,
    Sleep,
    Terminal,
    Timeout,
    Together,
    Try,
)

SCRIPTS_MAX = 40  # of one run: more take longer, and find little more
_VERBS = {
    "add": 6,
    "run": 4,
    "sleep": 2,
    "call": 3,
    "send": 3,
    "publish": 2,
    "awake": 1,
    "signal": 1,
    "promise": 1,
    "look": 1,
    "together": 2,
    "timeout": 1,
    "try": 1,
    "fail": 1,
    "terminal": 0.3,
}
_JUMPS_MS = (-3_600_000, -20_000, -500, 500, 20_000, 3_600_000)
_STARTED = ("ask", "book", "work", "look", "main", "tell")


class Generator:
    """Makes one plan."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = rng = random.Random(f"plan {seed}")
        self._left = SCRIPTS_MAX
        self._has_branches = False
        self._weights = [weight * rng.choice((0.2, 1, 1, 3)) for weight in _VERBS.values()]
        self._keys = [f"k{n}" for n in range(rng.choice((1, 2, 3, 6)))]
        self._flows = [f"f{n}" for n in range(rng.choice((1, 2)))]
        self._span_ms = rng.choice((500, 3_000, 10_000, 30_000))
        self._pace = rng.choice((0.1, 1, 1, 4))
        self._idempotent: list[tuple[str, str, Script, str]] = []

    def plan(self) -> Plan:
        rng = self._rng
        inputs = [self._input(number) for number in range(rng.randint(3, 16))]
        inputs.sort(key=lambda each: each.at_ms)
        limits = self._limits()
        if self._has_branches:
            # A turn that is cut at a read would let one branch write between the read and the write of another.
            limits = msgspec.structs.replace(limits, cut=Limits().cut)
        return Plan(
            seed=self._seed,
            inputs=tuple(inputs),
            faults=tuple(self._faults()),
            limits=limits,
            commit_ms=rng.choice((0.1, 2.0, 2.0, 20.0)),
            sink_ms=rng.choice((0.1, 4.0, 4.0, 400.0)),
        )

    def _at_ms(self) -> int:
        return self._rng.randint(0, self._span_ms)

    def _key(self) -> str:
        """The first key is the hottest."""
        rng = self._rng
        return self._keys[0] if rng.random() < 0.4 else rng.choice(self._keys)

    def _duration_ms(self) -> int:
        return round(self._rng.choice((0, 1, 10, 100, 1_000, 5_000)) * self._pace * (0.5 + self._rng.random()))

    def _input(self, number: int) -> Input:
        rng, tag, at_ms = self._rng, f"t{number}", self._at_ms()
        if self._idempotent and rng.random() < 0.25:
            to, key, script, shared = rng.choice(self._idempotent)
            return Input(at_ms, rng.choice(("call", "send")), to, key, script, shared)
        by = rng.choice(("record", "record", "call", "send", "send"))
        if by == "record":
            to = rng.choice(("change", "change", "change", "work"))
            return Input(at_ms, by, to, self._key(), self._script(tag, to, 0))
        to = rng.choice(_STARTED)
        key = self._target_key(to)
        script = self._script(tag, to, 0)
        idem = f"i{number}" if rng.random() < 0.35 and to in ("ask", "book") else None
        if idem is not None:
            self._idempotent.append((to, key, script, idem))
        delay_ms = self._duration_ms() if by == "send" and rng.random() < 0.3 and to != "main" else None
        return Input(at_ms, by, to, key, script, idem, delay_ms)

    def _target_key(self, to: str) -> str:
        if to == "work":
            return ""
        return self._rng.choice(self._flows) if to in ("main", "tell") else self._key()

    def _script(self, tag: str, to: str, depth: int) -> Script:
        self._left -= 1
        length = self._rng.choice((0, 1, 1, 2, 3, 5)) if depth else self._rng.choice((1, 1, 2, 3, 4, 7))
        return Script(tag, self._ops(tag, to, depth, "", length))

    def _ops(self, tag: str, to: str, depth: int, prefix: str, length: int) -> tuple[Op, ...]:
        return tuple(self._op(tag, to, depth, f"{prefix}{number}") for number in range(length))

    def _op(self, tag: str, to: str, depth: int, at: str) -> Op:
        rng = self._rng
        verb = rng.choices(list(_VERBS), self._weights)[0]
        if verb in ("call", "send") and (depth >= 3 or self._left <= 0):
            verb = "run"
        if verb == "fail" and "_" in at:
            # The error of a branch may be lost with the branch, and then a replay would find it gone.
            verb = "add"
        if verb in ("together", "timeout", "try"):
            return self._nested(verb, tag, to, depth, at)
        match verb:
            case "call" | "send":
                return self._other(verb, tag, depth, at)
            case "run":
                return self._run(at)
            case "sleep":
                return Sleep(at, self._duration_ms(), rng.random() < 0.5)
            case "publish":
                return Publish(at, self._key())
            case "awake":
                return Awake(at, self._duration_ms(), rng.random() < 0.5)
            case "signal":
                return Signal(at, self._duration_ms())
            case "add" | "look" | "fail" | "terminal":
                return self._simple(verb, at)
            case "promise" if to in ("main", "tell"):
                hows = (
                    ("await", "resolve", "peek", "reject") if to == "main" else ("resolve", "resolve", "await", "peek")
                )
                return Promise(at, rng.choice(("p0", "p1")), rng.choice(hows))
            case _:
                return self._simple("add", at)

    def _simple(self, verb: str, at: str) -> Op:
        rng = self._rng
        match verb:
            case "look":
                return Look(at)
            case "fail":
                return Fail(at, rng.choice((1, 1, 2, 5)))
            case "terminal":
                return Terminal(at)
            case _:
                return Add(at, rng.choice("xy"), rng.randint(1, 9))

    def _run(self, at: str) -> Run:
        rng = self._rng
        return Run(
            at,
            self._duration_ms(),
            rng.choice((0, 0, 0, 1, 2, 5)),
            "terminal" if rng.random() < 0.08 else "ok",
            rng.random() < 0.4,
            rng.choice((0, 0, 2, 3)),
            rng.random() < 0.9,
        )

    def _other(self, verb: str, tag: str, depth: int, at: str) -> Op:
        rng = self._rng
        child = f"{tag}.{at.replace('.', '_')}"
        to = rng.choice(_STARTED)
        key = self._target_key(to)
        idem = f"c{child}" if rng.random() < 0.15 and to in ("ask", "book") else None
        script = self._script(child, to, depth + 1)
        if verb == "call":
            return Call(at, to, key, script, idem)
        delay_ms = self._duration_ms() if rng.random() < 0.35 and to != "main" else None
        return Send(at, to, key, script, delay_ms, idem, rng.choice(("", "", "", "attach", "cancel")))

    def _nested(self, verb: str, tag: str, to: str, depth: int, at: str) -> Op:
        rng = self._rng
        if at.count(".") >= 2:
            return Add(at, "x", 1)
        if verb == "together":
            self._has_branches = True
            count = rng.randint(2, 3)
            branches = (self._ops(tag, to, depth, f"{at}.{n}_", rng.randint(1, 2)) for n in range(count))
            return Together(at, rng.choice(("gather", "group", "race")), tuple(branches))
        body = self._ops(tag, to, depth, f"{at}.", rng.randint(1, 2))
        return Timeout(at, self._duration_ms(), body) if verb == "timeout" else Try(at, body)

    def _faults(self) -> list[Fault]:
        rng = self._rng
        faults: list[Fault] = []
        for _ in range(rng.choice((0, 1, 2, 3, 5))):
            kind = rng.choice(("crash", "crash", "crash_before", "crash_after", "stop", "commit_error"))
            at_ms, down_ms = self._at_ms(), rng.choice((0, 5, 500, 5_000))
            faults.append(Fault(at_ms, kind, rng.randint(0, 6), down_ms))
            if rng.random() < 0.25:
                # Again while it recovers.
                again = rng.choice(("crash", "crash_before", "crash_after"))
                faults.append(Fault(at_ms + down_ms + rng.randint(0, 8), again, rng.randint(0, 1), 0))
        faults.extend(
            Fault(self._at_ms(), rng.choice(("cancel", "kill", "resume", "cancel")), rng.randint(0, 20))
            for _ in range(rng.choice((0, 1, 3, 6)))
        )
        faults.extend(Fault(self._at_ms(), "jump", rng.choice(_JUMPS_MS)) for _ in range(rng.choice((0, 0, 1, 3))))
        faults.extend(
            Fault(self._at_ms(), kind, rng.choice((1, 3, 400, 3_000)))
            for kind in ("sink_down", "slow_disk", "rewind")
            if rng.random() < 0.35
        )
        return sorted(faults, key=lambda fault: fault.at_ms)

    def _limits(self) -> Limits:
        rng = self._rng
        if rng.random() < 0.3:
            return Limits(always_replay=rng.random() < 0.3)
        return Limits(
            always_replay=rng.random() < 0.25,
            writes_in_thread=rng.random() < 0.93,
            keys=rng.choice((1, 3, 200_000)),
            live=rng.choice((0, 2, 10_000)),
            queue=rng.choice((1, 2, 3, 1_000)),
            page=rng.choice((1, 3, 1_000)),
            outbox=rng.choice((1, 3, 5_000)),
            chunk=rng.choice((1, 4, 500)),
            work=rng.choice((1, 4, 512)),
            cut=rng.choice((4, 20, 1_000, 1_000)),
            in_flight=rng.choice((1, 4, 10_000)),
        )


def plan_of(seed: int) -> Plan:
    """The plan of a seed."""
    return Generator(seed).plan()
