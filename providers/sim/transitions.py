"""The transitions of a guest: pure functions from a guest and a moment to the guest as it is from then on.

Moments are seconds since 1970. A transition records the future at once (the line that the console will print,
the moment of the end); a later transition removes or moves what has not happened yet.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from providers.core.adapter import OffCause, PowerState, Signal
from providers.core.errors import CommandFailed, Locked
from providers.sim.guest import Guest, Line, Process, Snapshot, is_being_saved, power_state, signals
from providers.sim.script import GuestScript, HookScript

KEPT_LINES = 200
"""How much of a console is kept, as the ring buffer of a real one would."""
KEPT_PROCESSES = 50

Transition = Callable[[Guest, float], Guest]
"""From a guest and a moment to the guest after it. May raise CommandFailed: the guest is unchanged."""


def create(vm_id: str, name: str, script: GuestScript, now: float) -> Guest:
    """A new guest, in the state that its script starts with; one that is on has long been up."""
    guest = Guest(vm_id, name, script, now, now, now, powered_at=now)
    match script.power:
        case "off":
            return replace(guest, off_at=now)
        case "booting":
            return _boot(guest, now)
        case "paused":
            return pause(guest, now)
        case "suspended":
            return suspend(guest, now)
    return _say(guest, now, "ready")


def power_on(guest: Guest, now: float) -> Guest:
    """Start it, or resume a held guest. A guest that runs is unchanged, even on its way down."""
    if guest.script.template:
        raise CommandFailed(f"{guest.name} is a template; start a VM that was made from it.")
    match power_state(guest, now):
        case PowerState.ON:
            return guest
        case PowerState.OFF:
            return _boot(replace(guest, powered_at=now), now)
    return resume(guest, now)


def power_off(guest: Guest, now: float) -> Guest:
    """Cut its power; takes `power_off_time`. A guest that goes off by itself before that keeps its own cause."""
    at = now + guest.script.power_off_time
    if guest.held is None and guest.off_at is not None and guest.off_at <= at:
        return guest
    return _end(guest, at, OffCause.HOST)


def pause(guest: Guest, now: float) -> Guest:
    """Pause its processors."""
    return _hold(guest, now, PowerState.PAUSED)


def suspend(guest: Guest, now: float) -> Guest:
    return _hold(guest, now, PowerState.SUSPENDED)


def save(guest: Guest, now: float) -> Guest:
    """Save its memory, and stop it; takes `save_time`. One that is being saved, or is saved, is unchanged."""
    script = guest.script
    if script.unsavable or script.template:
        raise CommandFailed(f"{guest.name} cannot be saved: {script.unsavable or 'it is a template'}.")
    if script.locked:
        raise Locked(f"{guest.name} is locked: {script.locked}.")
    if power_state(guest, now) is PowerState.OFF:
        raise CommandFailed(f"{guest.name} is off; it has no memory to save.")
    if guest.held is PowerState.SUSPENDED:
        return guest
    since = now if guest.held is None else guest.held_at
    return replace(guest, held=PowerState.SUSPENDED, held_at=since, saved_at=now + script.save_time)


def resume(guest: Guest, now: float) -> Guest:
    """Let a held guest go on: all that is planned for it is delayed by the time that it was held. One whose memory was
    saved begins another run with it."""
    if guest.held is None:
        raise CommandFailed(f"{guest.name} is neither paused nor suspended.")
    if is_being_saved(guest, now):
        raise Locked(f"The memory of {guest.name} is being saved; start it when that has ended.")

    def later(at: float) -> float:
        return at + now - guest.held_at if at > guest.held_at else at

    return replace(
        guest,
        held=None,
        saved_at=None,
        powered_at=guest.powered_at if guest.saved_at is None else now,
        ready_at=later(guest.ready_at),
        agent_at=later(guest.agent_at),
        off_at=None if guest.off_at is None else later(guest.off_at),
        console=tuple(replace(line, at=later(line.at)) for line in guest.console),
        processes=tuple(replace(one, exit_at=later(one.exit_at)) for one in guest.processes),
    )


def crash(guest: Guest, now: float) -> Guest:
    _must_run(guest, now)
    return _end(guest, now, OffCause.CRASHED, "kernel panic")


def shut_down(guest: Guest, now: float) -> Guest:
    """Shut its system down, as its script says. A guest that boots, or is on its way down, ignores it."""
    _must_run(guest, now)
    if guest.off_at is not None or now < guest.ready_at:
        return guest
    at = now + guest.script.shutdown_time
    match guest.script.on_shutdown:
        case "reboot":
            return _boot(_say(guest, at, "rebooting"), at)
        case "crash":
            return _end(guest, at, OffCause.CRASHED, "kernel panic")
    return _end(guest, at, OffCause.GUEST, "powering off")


def press_button(guest: Guest, now: float) -> Guest:
    """Press its power button. A guest that boots, ignores it or is on its way down does not notice."""
    _must_hear(Signal.ACPI, guest, now)
    if guest.script.acpi == "ignores" or now < guest.ready_at or guest.off_at is not None:
        return guest
    return shut_down(_say(guest, now, "power button pressed"), now)


def ask_agent(guest: Guest, now: float) -> Guest:
    """Have its agent shut it down. A hanging agent does not notice."""
    _must_obey(guest, now)
    if guest.script.agent == "hanging" or guest.off_at is not None:
        return guest
    asked = _say(guest, now, "agent asked for shutdown")
    return asked if guest.script.agent == "ignores" else shut_down(asked, now)


def start_process(guest: Guest, now: float, command: Sequence[str]) -> Guest:
    """Start a program by its agent; it is the last of `processes`. A hanging agent starts none."""
    _must_obey(guest, now)
    if guest.script.agent == "hanging":
        return guest
    text = " ".join(command)
    hook, groups = _hook_for(guest.script, text)
    pid = max((one.pid for one in guest.processes), default=1000) + 1
    output = f"{text}\n" if hook.output is None else _fill(hook.output, groups)
    process = Process(pid, tuple(command), now, now + hook.takes, hook.exit_code, output)
    guest = replace(guest, processes=(*guest.processes, process)[-KEPT_PROCESSES:])
    return _print(guest, now, _fill(hook.console, groups)) if hook.console else guest


def process_end(guest: Guest, now: float, pid: int) -> Process | None:
    """The process if it has ended, None while it runs.

    Raises:
        CommandFailed: the agent does not answer, or the guest was started anew since.
    """
    _must_hear(Signal.GUEST_AGENT, guest, now)
    for process in guest.processes:
        if process.pid == pid and process.started_at >= guest.started_at:
            return process if process.exit_at <= now else None
    raise CommandFailed(f"{guest.name} has no process {pid}; it has been restarted since.")


def take_snapshot(guest: Guest, now: float, name: str, description: str, include_memory: bool) -> Guest:
    if any(snapshot.name == name for snapshot in guest.snapshots):
        raise CommandFailed(f"{guest.name} has a snapshot {name!r} already; choose another name.")
    snapshot = Snapshot(name, description, include_memory, now)
    return replace(guest, snapshots=(*guest.snapshots, snapshot))


def _boot(guest: Guest, at: float) -> Guest:
    ready = at + guest.script.boot_time
    agent = ready + guest.script.agent_delay
    up = replace(guest, started_at=at, ready_at=ready, agent_at=agent, off_at=None, off_cause=None)
    return _say(up, ready, "ready")


def _end(guest: Guest, at: float, cause: OffCause, text: str = "") -> Guest:
    lived = at if guest.held is None else guest.held_at
    console = tuple(line for line in guest.console if line.at <= lived)
    ended = replace(guest, held=None, saved_at=None, off_at=at, off_cause=cause, console=console)
    return _say(ended, at, text) if text else ended


def _hold(guest: Guest, now: float, state: PowerState) -> Guest:
    _must_run(guest, now)
    return replace(guest, held=state, held_at=now)


def _say(guest: Guest, at: float, text: str) -> Guest:
    return _print(guest, at, f"guest {guest.name}: {text}")


def _print(guest: Guest, at: float, text: str) -> Guest:
    lines = sorted((*guest.console, Line(at, text)), key=lambda line: line.at)
    return replace(guest, console=tuple(lines[-KEPT_LINES:]))


def _hook_for(script: GuestScript, text: str) -> tuple[HookScript, Sequence[str | None]]:
    for hook in script.hooks:
        if found := re.search(hook.match, text):
            return hook, found.groups()
    return HookScript(), ()


def _fill(template: str, groups: Sequence[str | None]) -> str:
    for number, group in enumerate(groups, 1):
        template = template.replace(f"\\{number}", group or "")
    return template


def _must_run(guest: Guest, now: float) -> None:
    if (state := power_state(guest, now)) is not PowerState.ON:
        raise CommandFailed(f"{guest.name} is {state}; start or resume it first.")


def _must_hear(signal: Signal, guest: Guest, now: float) -> None:
    _must_run(guest, now)
    if signal not in signals(guest, now):
        raise CommandFailed(f"{guest.name} cannot hear {signal} now; see the problems in its forecast.")


def _must_obey(guest: Guest, now: float) -> None:
    _must_hear(Signal.GUEST_AGENT, guest, now)
    if guest.script.agent == "refuses":
        raise CommandFailed(f"The agent of {guest.name} refused; look at its configuration in the guest.")
