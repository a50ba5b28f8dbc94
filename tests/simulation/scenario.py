"""What is to happen in one simulation, as data: made from a seed, printed, shrunk, and played again."""

import random
from dataclasses import dataclass, replace
from typing import Any

from tests.simulation.act import Act
from tests.simulation.aligned import aligned, cut_short, handed_over, saved, set_back, to_save, told_late, unheard
from tests.simulation.declared import CLOCKS, by_hand, declared
from tests.simulation.hypervisor import Behaviour

LENGTH = 240.0
"""Seconds in which requests and harm come; after that everything is mended and settles."""
REQUESTS = ("Shutdown", "PowerOff", "PowerOn", "Reboot", "Extend", "Force", "Cancel")
HARMS = (
    "kill",
    "kill at step",
    "reboot the provider's machine",
    "set the clock",
    "set the clock while no provider runs",
    "fill the disk",
    "slow disk",
    "restart the daemon",
    "lose answers",
    "lie",
    "be late",
    "cut by somebody",
    "cut just before us",
    "restarted by somebody",
    "restarted while no provider runs",
    "started by somebody",
    "crash",
    "remove",
    "forget causes",
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that one simulation needs; equal scenarios play alike."""

    seed: int
    behaviours: tuple[Behaviour, ...]
    acts: tuple[Act, ...]
    clocks: tuple[float, float] = (0.0, 0.0)
    """By how many seconds the provider's clock is off, and the controller's."""
    delegates: bool = False
    """Whether the hypervisor keeps deadlines."""

    def without(self, acts: set[int]) -> "Scenario":
        return replace(self, acts=tuple(act for n, act in enumerate(self.acts) if n not in acts))


def make(seed: int) -> Scenario:
    """The scenario of a seed: of every third one, with harm that is aimed; of every sixth, with a controller; of every
    twelfth, with a guest that is hard to ask or a kill at its cut; of every twelfth, with a guest of which events tell
    late or a clock that is set back; of every twelfth, on a hypervisor that keeps deadlines; and of every twelfth, with
    guests whose memory is to be saved."""
    chance = random.Random(seed)
    if seed % 6 == 5:
        return _declared(seed, chance)
    if seed % 12 == 4:
        return _saving(seed, chance)
    return _aimed(seed, chance) or _at_random(seed, chance)


def _aimed(seed: int, chance: random.Random) -> Scenario | None:
    """One VM, and harm that comes just when it matters; None: another kind of seed."""
    match seed % 24:
        case 13:
            behaviour, acts = Behaviour(takes=None, agent=False), cut_short(chance, "vm-0")
        case 1:
            behaviour = Behaviour(takes=chance.choice((0.5, 3.0, 8.0)), acpi=False)
            acts = unheard(chance, "vm-0")
        case 7:
            behaviour, acts = _behaviour(chance), told_late(chance, "vm-0")
        case 19:
            behaviour, acts = _behaviour(chance), set_back(chance, "vm-0")
        case 10 | 22:
            behaviour, acts = _behaviour(chance), handed_over(chance, "vm-0")
        case kind if kind % 3 == 0:
            behaviour, acts = _behaviour(chance), aligned(chance, "vm-0")
        case _:
            return None
    return Scenario(seed, (behaviour,), tuple(sorted(acts, key=lambda act: act.at)), delegates=seed % 12 == 10)


def _saving(seed: int, chance: random.Random) -> Scenario:
    """Of every second one, at random; of the others, aimed. The hypervisor of a few keeps deadlines."""
    made = _at_random(seed, chance)
    if seed % 24 == 4:
        made = replace(made, behaviours=made.behaviours[:1], acts=saved(chance, "vm-0"))
    behaviours = tuple(_tied(chance, each) for each in made.behaviours)
    acts = sorted((to_save(chance, act) for act in made.acts), key=lambda act: act.at)
    return replace(made, behaviours=behaviours, acts=tuple(acts), delegates=chance.random() < 0.2)


def _tied(chance: random.Random, behaviour: Behaviour) -> Behaviour:
    """Mostly deaf, and its memory takes more or less long to be saved, or cannot be."""
    takes, saves = chance.choice((behaviour.takes, None)), chance.choice((0.1, 2.0, 2.0, 8.0, 30.0, None))
    return replace(behaviour, takes=takes, saves=saves, told_unsavable=chance.random() < 0.5)


def _declared(seed: int, chance: random.Random) -> Scenario:
    found = (_behaviour(chance) for _ in range(chance.choice((1, 1, 2))))
    behaviours = tuple(replace(each, saves=chance.choice((0.5, 2.0, 20.0, None))) for each in found)
    acts = [act for n in range(len(behaviours)) for act in declared(chance, f"vm-{n}")]
    clocks = (chance.choice(CLOCKS), chance.choice(CLOCKS))
    if seed % 18 == 5:
        acts = [act for act in acts if not act.what.startswith("set the")] + by_hand(chance, "vm-0")
        clocks = (0.0, 0.0)
    return Scenario(seed, behaviours, tuple(sorted(acts, key=lambda act: act.at)), clocks)


def _at_random(seed: int, chance: random.Random) -> Scenario:
    behaviours = tuple(_behaviour(chance) for _ in range(chance.choice((1, 1, 2))))
    vms = [f"vm-{n}" for n in range(len(behaviours))]
    requests = [_request(chance, chance.choice(vms), n) for n in range(chance.randint(1, 6))]
    harms = [_harm(chance, chance.choice(vms)) for _ in range(chance.choice((0, 1, 1, 2, 3, 5)))]
    return Scenario(seed, behaviours, tuple(sorted((*requests, *harms), key=lambda act: act.at)))


def _behaviour(chance: random.Random) -> Behaviour:
    agent = chance.random() < 0.6
    return Behaviour(
        takes=chance.choice((0.5, 3.0, 3.0, 8.0, 20.0, 45.0, None)),
        agent=agent,
        acpi=not agent or chance.random() < 0.7,
        refuses=chance.random() < 0.15,
        after=chance.choice((1, 1, 1, 3)),
        crashes=chance.random() < 0.1,
    )


def _request(chance: random.Random, vm: str, number: int) -> Act:
    what = chance.choice(("Shutdown",) * 5 + REQUESTS)
    how: dict[str, Any] = {"request_id": f"request-{number}"}
    if what in ("Shutdown", "Reboot"):
        how |= {
            "timeout": chance.choice((5.0, 10.0, 30.0, 60.0)),
            "escalation": chance.choice(("FORCE", "FORCE", "NEVER", "ASK")),
            "hooks": chance.choice((0, 0, 1, 2)) if what == "Shutdown" else 0,
            "resend": chance.choice((10.0, 10.0, 1.0, 0.0)),
        }
    if what == "Extend":
        how["timeout"] = chance.choice((20.0, 40.0, 90.0))
    return Act(round(chance.uniform(0, LENGTH / 2), 3), what, vm, tuple(how.items()))


def _harm(chance: random.Random, vm: str) -> Act:
    what = chance.choice(("kill",) * 3 + ("kill at step",) * 3 + HARMS)
    how: dict[str, Any] = {"lasts": round(chance.choice((0.01, 1.0, 5.0, 40.0)) * chance.uniform(0.5, 1.5), 3)}
    if what == "kill at step":
        how["step"] = chance.randint(1, 60)
    if what.startswith("set the clock"):
        how["by"] = chance.choice((-3600.0, 3600.0, -30.0, 30.0))
    if what == "restart the daemon":
        how["forgets"] = chance.random() < 0.5
    return Act(round(chance.uniform(0, LENGTH / 2), 3), what, vm, tuple(how.items()))
