"""Scenarios in which owners declare what they want, and a controller sees to it, over a network that breaks."""

import random
from typing import Any

from tests.simulation.act import Act

FIRST = ("OffGraceful",) * 6 + ("Off", "On")
LATER = ("On", "OffGraceful", "Off", "a longer time", "another escalation")
HARMS = (
    "kill",
    "kill",
    "kill at step",
    "kill the controller",
    "kill the controller",
    "kill the controller at step",
    "cut the network",
    "break connections",
    "lose calls",
    "calls are late",
    "calls come twice",
    "no API server",
    "set the controller's clock",
    "set the clock",
    "fill the disk",
    "restart the daemon",
    "lose answers",
    "be late",
    "cut by somebody",
    "started by somebody",
    "restarted by somebody",
    "crash",
)
CLOCKS = (0.0, 0.0, -600.0, 600.0)
"""By how many seconds the provider's clock may be off, and the controller's, each for itself."""
LAST = 120.0
"""Seconds after which nothing more is declared and no harm begins."""


def declared(chance: random.Random, vm: str) -> tuple[Act, ...]:
    """One resource, whose owner changes it now and then, and harm to all that serves it."""
    spec = {
        "powerState": chance.choice(FIRST),
        "timeout": chance.choice((5, 10, 30)),
        "escalation": chance.choice(("Force", "Force", "Never", "Never", "Ask", "Save", "Save")),
        "falls_back": chance.random() < 0.5,
        "hooks": chance.choice((0, 0, 1)),
    }
    at, acts = chance.uniform(0, 20), list[Act]()
    for number in range(chance.choice((1, 1, 1, 2, 3))):
        if number:
            at += chance.uniform(0.5, 40)
            _change(chance, spec)
        acts.append(Act(round(at, 3), "declare", vm, tuple(spec.items())))
    harms = [
        _harm(chance, chance.choice(HARMS), vm, [act.at for act in acts]) for _ in range(chance.choice((0, 1, 2, 3)))
    ]
    return (*acts, *harms)


def by_hand(chance: random.Random, vm: str) -> list[Act]:
    """What people do by hand meanwhile: they ask the provider itself, every second time while no controller runs, and
    now and then suspend or start the VM at its hypervisor."""
    asked = list[Act]()
    for number in range(chance.choice((1, 1, 2))):
        at, what = chance.uniform(0, LAST), chance.choice(("Shutdown", "Shutdown", "PowerOff", "PowerOn"))
        how: dict[str, Any] = {"request_id": f"by-hand-{number}"}
        if what == "Shutdown":
            how |= {"timeout": chance.choice((5.0, 10.0, 30.0)), "escalation": "FORCE", "hooks": 0, "resend": 10.0}
        asked.append(Act(round(at, 3), what, vm, tuple(how.items())))
        if chance.random() < 0.3:
            asked.append(_harm(chance, chance.choice(("suspended by somebody", "started by somebody")), vm, [at]))
        if chance.random() < 0.5:
            lasts = round(chance.choice((1.0, 15.0, 40.0)) * chance.uniform(0.5, 1.5), 3)
            begins = round(max(at + chance.uniform(-1, 2), 0.0), 3)
            asked.append(Act(begins, "kill the controller", vm, (("lasts", lasts),)))
    return asked


def _change(chance: random.Random, spec: dict[str, Any]) -> None:
    match chance.choice(LATER):
        case "a longer time":
            spec["timeout"] += 20
        case "another escalation":
            spec["escalation"] = chance.choice(("Force", "Never", "Ask", "Save"))
            spec["falls_back"] = chance.random() < 0.5
        case power:
            spec["powerState"] = power


def _harm(chance: random.Random, what: str, vm: str, moments: list[float]) -> Act:
    """Every second one comes soon after something was declared."""
    at = chance.choice(moments) + chance.uniform(-0.5, 5) if chance.random() < 0.5 else chance.uniform(0, LAST)
    how: dict[str, Any] = {"lasts": round(chance.choice((0.01, 1.0, 5.0, 30.0)) * chance.uniform(0.5, 1.5), 3)}
    if what.endswith("at step"):
        how["step"] = chance.randint(1, 120)
    if what.startswith("set the"):
        how["by"] = chance.choice((-3600.0, 3600.0, -30.0, 30.0))
    if what == "restart the daemon":
        how["forgets"] = chance.random() < 0.5
    return Act(round(max(at, 0.0), 3), what, vm, tuple(how.items()))
