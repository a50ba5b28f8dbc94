"""What is to happen in one simulated run of a plan, as data: made from a seed, printed, and played again."""

import random
from dataclasses import dataclass
from typing import Any

from tests.simulation.act import Act
from tests.simulation.hypervisor import IS_READY, Behaviour

HARMS = ("kill the engine", "kill the engine", "kill a provider", "kill a provider", "remove", "break connections")
OTHERS = ("abort", "abort", "abort", "cut by somebody", "shut down by somebody", "shut down by somebody")
LAST_WORD = 12.0
"""The longest that anything harmed is away, in seconds."""
LEAST_LEFT = 10.0
"""Seconds that a run has at least when it is told that less is left."""
CALM = 75.0
"""Seconds of reserve that a plan with harm has at least: each of three harms may take some of it."""


@dataclass(frozen=True, slots=True)
class Owned:
    """A VM as its owner declares it: the tier of its label, seconds, how many hooks, and whether it is forced where it
    cannot be saved."""

    tier: str
    timeout: float
    escalation: str
    hooks: int
    falls_back: bool


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that one simulation needs; equal scenarios play alike. `behaviours` are the guests of each provider;
    `owned` are declared VMs, by their keys (p0/vm-3); `off` are off when the run starts."""

    seed: int
    behaviours: tuple[tuple[Behaviour, ...], ...]
    spec: dict[str, Any]
    owned: dict[str, Owned]
    off: tuple[str, ...]
    acts: tuple[Act, ...]

    @property
    def vms(self) -> int:
        return sum(map(len, self.behaviours))


def make(seed: int) -> Scenario:
    """The scenario of a seed: of every tenth up to 200 VMs, of all others up to 16."""
    chance = random.Random(seed)
    behaviours = _guests(chance, chance.randint(20, 200) if seed % 10 == 0 else chance.randint(1, 16))
    vms = [f"p{place}/vm-{number}" for place, guests in enumerate(behaviours) for number in range(len(guests))]
    chance.shuffle(vms)
    total = chance.choice((60, 90, 120, 240, 600, 1200))
    tiers, owned = _tiers(chance, vms, total)
    harms = chance.choice((0, 0, 1, 2, 2, 3))
    reserve = max(chance.choice((0, 10, 60)), CALM if harms else 0)
    spec = {
        "budget": {"total": f"{total + reserve}s", "reserve": f"{reserve}s"},
        "tiers": tiers,
        "others": chance.choice(("First", "Last", "Ignore")),
    }
    if chance.random() < 0.7:
        signal = chance.choice(("Power", "Agent"))
        asked: dict[str, object] = {"exec": {"command": [IS_READY]}} if seed % 3 == 0 else {"signal": signal}
        ready = asked | {"timeout": "20s"}
        spec["bringUp"] = {"ready": ready | {"onTimeout": chance.choice(("Continue", "Continue", "Stop"))}}
    acts = [_harm(chance, vms, total) for _ in range(harms)]
    if chance.random() < 0.5:
        acts += _by_somebody(chance, vms, behaviours, total)
    off = tuple(vm for vm in vms if chance.random() < 0.1)
    if chance.random() < 0.25:  # the battery lasts less long than it said
        left = round(chance.uniform(CALM if harms else LEAST_LEFT, total + reserve), 3)
        acts.append(Act(_soon(chance, total), "shorten", vms[0], (("to", left),)))
    return Scenario(seed, behaviours, spec, owned, off, tuple(sorted(acts, key=lambda act: act.at)))


def _guests(chance: random.Random, count: int) -> tuple[tuple[Behaviour, ...], ...]:
    providers = chance.randint(1, min(3, count))
    sizes = [len(range(place, count, providers)) for place in range(providers)]
    return tuple(tuple(_guest(chance) for _ in range(size)) for size in sizes)


def _guest(chance: random.Random) -> Behaviour:
    agent = chance.random() < 0.6
    return Behaviour(
        takes=chance.choice((0.5, 3.0, 3.0, 8.0, 20.0, 45.0, 100.0, None)),
        agent=agent,
        acpi=not agent or chance.random() < 0.8,
        refuses=chance.random() < 0.1,
        crashes=chance.random() < 0.05,
        saves=chance.choice((0.5, 3.0, 20.0, 100.0, None)),
        told_unsavable=chance.random() < 0.5,
    )


def _tiers(chance: random.Random, vms: list[str], total: int) -> tuple[list[dict[str, Any]], dict[str, Owned]]:
    """A graph: each tier after the one before it, after any of those before it, or after none."""
    tiers, owned = list[dict[str, Any]](), dict[str, Owned]()
    count = chance.randint(1, min(7, len(vms)))
    for number in range(count):
        part = vms[number::count]
        part = part[: max(1, chance.randint(len(part) // 2, len(part)))]
        declared = [vm for vm in part if chance.random() < 0.4]
        owned |= {vm: _owned(chance, f"t{number}") for vm in declared}
        members: list[dict[str, Any]] = [{"vms": [vm for vm in part if vm not in declared]}] if part != declared else []
        if declared:
            members.append({"selector": {"matchLabels": {"tier": f"t{number}"}}})
        tier: dict[str, Any] = {
            "name": f"t{number}",
            "members": members,
            "minimum": f"{min(total, chance.choice((0, 0, 5, 20, 60, 110)))}s",
            "atDeadline": chance.choice(("Respect",) * 4 + ("Force",) * 3 + ("Save",) * 3 + ("Stop",)),
        }
        if tier["atDeadline"] == "Save" and chance.random() < 0.5:
            tier["saveFallback"] = chance.choice(("Force", "Force", "Never"))
        if tier["atDeadline"] in ("Save", "Respect") and chance.random() < 0.7:
            tier["saveTime"] = chance.choice(("2s", "10s", "30s"))
        if chance.random() < 0.5:
            names = [f"t{earlier}" for earlier in range(number)]
            tier["after"] = chance.sample(names, chance.randint(0, min(3, number)))
        tiers.append(tier)
    return tiers, owned


def _owned(chance: random.Random, tier: str) -> Owned:
    return Owned(
        tier=tier,
        timeout=chance.choice((5.0, 30.0, 60.0, 120.0)),
        escalation=chance.choice(("FORCE", "FORCE", "FORCE", "NEVER", "ASK", "SAVE", "SAVE")),
        hooks=chance.choice((0, 0, 1, 2)),
        falls_back=chance.random() < 0.5,
    )


def _by_somebody(
    chance: random.Random, vms: list[str], behaviours: tuple[tuple[Behaviour, ...], ...], total: float
) -> list[Act]:
    """What people do meanwhile. That somebody shuts a VM down is of most interest where the guest does not hear it, and
    an abort where a provider that is away has not been asked yet."""
    what = chance.choice(OTHERS)
    deaf = [f"p{p}/vm-{n}" for p, guests in enumerate(behaviours) for n, each in enumerate(guests) if not each.takes]
    if what == "shut down by somebody" and deaf:
        return [Act(0.6, what, chance.choice(deaf))]
    act = Act(_soon(chance, total), what, chance.choice(vms))
    if what == "abort" and chance.random() < 0.5:
        return [Act(max(0.6, act.at - 3), "kill a provider", act.vm, (("lasts", 5.0),)), act]
    return [act]


def _soon(chance: random.Random, total: float) -> float:
    """Some time in the budget, more often near its beginning: most runs are over long before its end."""
    return round(1 + total * chance.random() ** chance.choice((1, 4)), 3)


def _harm(chance: random.Random, vms: list[str], total: float) -> Act:
    lasts = round(chance.uniform(0.1, LAST_WORD), 3)
    how = {"lasts": lasts, "step": chance.randint(1, 400)} if chance.random() < 0.4 else {"lasts": lasts}
    return Act(_soon(chance, total), chance.choice(HARMS), chance.choice(vms), tuple(how.items()))
