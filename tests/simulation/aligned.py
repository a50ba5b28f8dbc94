"""Scenarios in which harm comes just when it matters: at a request, at what follows it, or when a guest's time is over.

Harm at a random moment of a long time seldom meets the few steps in which a promise is written down, or a VM is cut.
"""

import random
from typing import Any

from tests.simulation.act import Act

FIRST = ("Shutdown",) * 6 + ("Reboot",) * 3 + ("PowerOff", "PowerOn")
SECOND = ("Extend", "Cancel", "Force", "PowerOff", "PowerOn", "Shutdown")
TOGETHER = (
    ("fill the disk", "kill"),
    ("fill the disk", "kill at step"),
    ("fill the disk", "watch again"),
    ("events are late", "restarted by somebody"),
    ("events are late", "lose answers"),
    ("lose answers", "kill at step"),
    ("lose answers",),
    ("lose signals",),
    ("lose answers", "restarted by somebody"),
    ("lose requests", "restarted by somebody"),
    ("restarted while no provider runs",),
    ("restart the daemon", "restarted by somebody"),
    ("remove",),
    ("remove", "kill"),
    ("kill at step",),
    ("kill at step", "kill at step"),
)
"""Harm that comes one after the other, within seconds."""
HANDED_OVER = (
    ("withdrawals are late",),
    ("events are late", "withdrawals are late"),
    ("withdrawals are late", "kill at step"),
    ("withdrawals are refused",),
    ("lose answers",),
    ("kill at step",),
    (),
)
"""Harm that meets a deadline which the hypervisor keeps."""
SAVED = (
    ("kill",),
    ("kill at step",),
    ("kill at step", "restarted by somebody"),
    ("lie",),
    ("crash",),
    ("cut by somebody",),
    ("cut just before us",),
    ("restart the daemon",),
    ("be late",),
    (),
)
"""More harm that meets a save."""
LONGEST = {"fill the disk": 60.0, "lose answers": 3.0, "lose requests": 3.0, "lose signals": 3.0}
"""Seconds that harm lasts, where not 20."""
JUST_BEFORE = 0.05
"""Seconds from the beginning of harm to the request that it is to meet."""
EARLY, LATE = 1.0, 3.0
"""Seconds before and after the moment that it is aimed at."""


def aligned(chance: random.Random, vm: str) -> tuple[Act, ...]:
    """One request, mostly another soon after it, and harm at the moment of one of them or of what they bring about."""
    at, timeout = chance.uniform(1, 20), chance.choice((5.0, 10.0, 30.0, 60.0))
    requests = [_request(chance, chance.choice(FIRST), vm, at, 0, timeout)]
    moments = [at, at, at + timeout]
    if chance.random() < 0.6:
        at += chance.uniform(0, timeout)
        requests.append(_request(chance, chance.choice(SECOND), vm, at, 1, timeout))
        moments += [at, at]
    harms = []
    moment = chance.choice(moments) + chance.uniform(-EARLY, LATE)
    for what in chance.choice(TOGETHER):
        harms.append(_harm(chance, what, vm, max(moment, 0.0)))
        moment += chance.uniform(0, LATE)
    return (*requests, *harms)


def unheard(chance: random.Random, vm: str) -> tuple[Act, ...]:
    """A guest is asked in the only way that it has, and that is lost, or its provider is killed just then."""
    at, timeout = chance.uniform(1, 20), chance.choice((30.0, 60.0))
    request = _request(chance, chance.choice(("Shutdown", "Reboot")), vm, at, 0, timeout)
    what = chance.choice(("lose signals", "lose signals", "kill at step"))
    harm = _harm(chance, what, vm, at - JUST_BEFORE)
    return harm, request


def cut_short(chance: random.Random, vm: str) -> tuple[Act, ...]:
    """The provider is killed just when it cuts the power of a guest whose time is over."""
    at, timeout = chance.uniform(1, 20), 5.0
    how = {"request_id": "request-0", "timeout": timeout, "escalation": "FORCE", "hooks": 0, "resend": 10.0}
    request = Act(round(at, 3), chance.choice(("Shutdown", "Reboot")), vm, tuple(how.items()))
    return request, _harm(chance, "kill at step", vm, at + timeout)


def told_late(chance: random.Random, vm: str) -> tuple[Act, ...]:
    """Somebody restarts a VM, of which events tell only after a request has looked at its new run."""
    at = chance.uniform(1, 20)
    late = Act(round(at, 3), "events are late", vm, (("lasts", 20.0),))
    restarted = _harm(chance, "restarted by somebody", vm, at + chance.uniform(0, 1))
    what = chance.choice(("Shutdown", "PowerOff", "Reboot"))
    return late, restarted, _request(chance, what, vm, at + chance.uniform(1, 9), 0, 30.0)


def set_back(chance: random.Random, vm: str) -> tuple[Act, ...]:
    """The provider's clock is set back between two requests for one VM, and it is killed while it is at the second."""
    at = chance.uniform(1, 20)
    back = at + chance.uniform(6, 10)
    again = back + chance.uniform(2, 4)
    before = chance.choice(("Shutdown", "PowerOff", "PowerOn", "Reboot"))
    after = chance.choice(("Shutdown", "Shutdown", "Reboot", "PowerOff", "PowerOn"))
    return (
        _request(chance, before, vm, at, 0, 5.0),
        Act(round(back, 3), "set the clock", vm, (("by", chance.choice((-3600.0, -60.0))),)),
        _request(chance, "PowerOn", vm, back + 1.5, 1, 5.0),
        _request(chance, after, vm, again, 2, 30.0),
        _harm(chance, chance.choice(("kill", "kill at step")), vm, again),
    )


def handed_over(chance: random.Random, vm: str) -> tuple[Act, ...]:
    """Shortly before the hypervisor cuts a guest's power, somebody decides otherwise, and it is slow to give that
    deadline back, or does not."""
    at, timeout = chance.uniform(1, 20), chance.choice((5.0, 10.0, 30.0))
    decides = at + timeout - chance.uniform(0, EARLY + LATE)
    what = chance.choice(("Extend", "Extend", "Extend", *SECOND))
    requests = _request(chance, "Shutdown", vm, at, 0, timeout), _request(chance, what, vm, decides, 1, timeout)
    harms = [_harm(chance, each, vm, decides - JUST_BEFORE) for each in chance.choice(HANDED_OVER)]
    return tuple(sorted((*requests, *harms), key=lambda act: act.at))


def saved(chance: random.Random, vm: str) -> tuple[Act, ...]:
    """The memory of a guest is saved when its time is over, and just then somebody decides otherwise, or harm comes."""
    at, timeout = chance.uniform(1, 20), chance.choice((5.0, 5.0, 10.0, 30.0))
    acts = [_request(chance, "Shutdown", vm, at, 0, timeout)]
    over = at + timeout
    if chance.random() < 0.6:
        moment = over + chance.uniform(-EARLY, 2 * LATE)
        acts.append(_request(chance, chance.choice((*SECOND, "PowerOn", "PowerOff", "Force")), vm, moment, 1, timeout))
    if chance.random() < 0.3:
        acts.append(_request(chance, chance.choice(("PowerOn", "Shutdown")), vm, over + chance.uniform(5, 20), 2, 5.0))
    moment = max(over + chance.uniform(-EARLY, LATE), 0.0)
    for what in chance.choice((*TOGETHER, *SAVED)):
        acts.append(_harm(chance, what, vm, moment))
        moment += chance.uniform(0, LATE)
    return tuple(acts)


def to_save(chance: random.Random, act: Act) -> Act:
    """A shutdown, mostly as one that saves its guest's memory; any other act as it is."""
    if act.what != "Shutdown" or chance.random() < 0.1:
        return act
    fallback = chance.choice(("NEVER", "NEVER", "FORCE"))
    how = dict(act.how) | {"escalation": "SAVE", "save_fallback": fallback}
    return Act(act.at, act.what, act.vm, tuple(how.items()))


def _request(chance: random.Random, what: str, vm: str, at: float, number: int, timeout: float) -> Act:
    how: dict[str, Any] = {"request_id": f"request-{number}"}
    if what in ("Shutdown", "Reboot"):
        how |= {
            "timeout": timeout,
            "escalation": chance.choice(("FORCE", "FORCE", "FORCE", "NEVER", "ASK")),
            "hooks": chance.choice((0, 0, 1, 2)) if what == "Shutdown" else 0,
            "resend": chance.choice((10.0, 1.0, 0.0)),
        }
    if what == "Extend":
        how["timeout"] = chance.choice((20.0, 40.0, 90.0))
    return Act(round(at, 3), what, vm, tuple(how.items()))


def _harm(chance: random.Random, what: str, vm: str, at: float) -> Act:
    longest = LONGEST.get(what, 20.0)
    how: dict[str, Any] = {"lasts": round(longest * chance.choice((0.05, 0.5, 1.0)) * chance.uniform(0.5, 1), 3)}
    if what == "kill at step":
        how["step"] = chance.randint(1, 40)
    if what == "restart the daemon":
        how["forgets"] = chance.random() < 0.5
    return Act(round(at, 3), what, vm, tuple(how.items()))
