"""What people and their colleagues do to fifty machines, drawn by hypothesis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import yaml
from hypothesis import strategies as st

from providers.sim.script import Script

GUESTS = """
guests:
  quick: &quick
    {count: 8, boot_time: 300ms, shutdown_time: 300ms, hooks: [{match: save, takes: 200ms}]}
  slow: {<<: *quick, count: 12, agent_delay: 300ms, shutdown_time: 1500ms}
  legacy: {count: 6, agent: none, boot_time: 500ms, shutdown_time: 1s}
  deaf: {<<: *quick, count: 4, agent: none, acpi: ignores}
  large: {<<: *quick, count: 2, agent: none, acpi: ignores, save_time: 2s}
  tied: {<<: *quick, count: 2, agent: none, acpi: ignores, unsavable: a device is tied to its host}
  refusing: {<<: *quick, count: 4, agent: refuses}
  hanging: {<<: *quick, count: 3, agent: hanging, acpi: ignores}
  mute: {<<: *quick, count: 2, agent: none, acpi: none, power_off_time: 300ms}
  stubborn: {<<: *quick, count: 3, on_shutdown: reboot}
  crashing: {<<: *quick, count: 2, on_shutdown: crash}
  faulty:
    <<: *quick
    count: 2
    faults: {send_signal: [refuse, ok, lost, unavailable], power_off: [refuse, ok, lost], power_on: [lost, refuse]}
"""
NAMES = tuple(name for _, name, _ in Script.model_validate(yaml.safe_load(GUESTS)).cast())
LIFECYCLE = {
    "gracefulShutdownTimeout": "2s",
    "preStop": {"exec": {"command": ["save"]}, "timeout": "1s"},
    "signalPolicy": {"resendInterval": "500ms"},
}
"""With which all begin: guests that boot drop the power button, so it is pressed often."""
SCENES = range(4, 7)
"""How many scenes a machine goes through in a round; each is one edit, or a few that belong together."""
POWER_STATES = ("On", "OffGraceful", "Off")


@dataclass(frozen=True)
class Edit:
    """One thing that somebody does: `spec` is merged into that of the resource, `decision` becomes its annotation,
    `control` happens at the hypervisor. `news` of the resource are waited for before the next one."""

    do: Literal["spec", "decision", "control"]
    what: Any
    news: int


def _spec(power_state: str | None = None, **lifecycle: str | None) -> Mapping[str, Any]:
    return ({"powerState": power_state} if power_state else {}) | ({"lifecycle": lifecycle} if lifecycle else {})


def escalate(escalation: str, fallback: str | None = None) -> dict[str, str | None]:
    """The fields of a lifecycle that say so: `saveFallback` is for Save alone, and the API refuses it beside others."""
    return {"escalation": escalation, "saveFallback": fallback}


# The API refuses Ask together with Off: each comes with what makes it right whatever was there before.
_SAVES = st.sampled_from((None, "Force", "Never")).map(lambda fallback: escalate("Save", fallback))
_DOWNS = st.one_of(st.sampled_from(("Force", "Never", "Ask")).map(escalate), _SAVES).map(
    lambda escalation: _spec("OffGraceful", **escalation)
)
_SPECS = st.one_of(
    _DOWNS,
    st.sampled_from(("OffGraceful", "On", "On")).map(_spec),
    st.sampled_from(("300ms", "1s", "3s", "10s")).map(lambda timeout: _spec(gracefulShutdownTimeout=timeout)),
    st.one_of(st.sampled_from(("Force", "Never")).map(escalate), _SAVES).map(lambda escalation: _spec(**escalation)),
    st.sampled_from(("Force", "Never")).map(lambda escalation: _spec("Off", **escalate(escalation))),
)
_DECISIONS = st.sampled_from(("extend=2s", "force", "cancel", "perhaps"))
_CONTROLS = st.sampled_from(("on", "on", "off", "poweroff", "crash", "pause", "suspend", "resume"))
_NEWS = st.sampled_from((0, 0, 1, 2, 3))


def _edit(do: Literal["spec", "decision", "control"], what: st.SearchStrategy[Any]) -> st.SearchStrategy[Edit]:
    return st.builds(Edit, st.just(do), what, _NEWS)


_SPEC = _edit("spec", _SPECS)
_UP = st.builds(Edit, st.just("spec"), st.just(_spec("On")), st.just(3))
_DOWN = st.builds(Edit, st.just("spec"), _DOWNS, st.integers(1, 2))
_DECISION, _CONTROL = _edit("decision", _DECISIONS), _edit("control", _CONTROLS)
_SCENE = st.one_of(
    _SPEC.map(lambda edit: [edit]),
    _CONTROL.map(lambda edit: [edit]),
    st.tuples(_UP, _DOWN, _DECISION),
    st.tuples(_DOWN, _SPEC),
    st.tuples(_DOWN, _CONTROL, _DECISION),
)
_VISIT = st.lists(_SCENE, min_size=SCENES.start, max_size=SCENES[-1]).map(lambda scenes: list(chain(*scenes)))


def _varied(drawn: Mapping[str, Sequence[Edit]]) -> bool:
    """Not one of hypothesis' simplest draws, in which the same happens to most."""
    return len({repr(visit) for visit in drawn.values()}) > len(NAMES) / 2


rounds = st.fixed_dictionaries(dict.fromkeys(NAMES, _VISIT)).filter(_varied)
"""What happens to each machine, while other things happen to the others."""
endings = st.fixed_dictionaries(dict.fromkeys(NAMES, st.sampled_from(POWER_STATES)))
"""How each is wanted in the end."""
