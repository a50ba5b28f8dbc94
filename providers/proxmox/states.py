"""Proxmox VE's states and ours: of QEMU, of containers, of locks and of HA.

QEMU's run states are those of its QAPI schema (`RunState`); cluster/resources shows them as pvestatd has last heard of
them (pve-manager, `update_qemu_status`). Locks: qemu-server and pve-container, the configuration's `lock`. HA states:
pve-ha-manager, `PVE::HA::Tools` and `PVE::HA::Manager`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from providers.core.adapter import VM, Cause, Delegation, PowerState, Problem, Reason, Signal
from providers.core.errors import HypervisorUnavailable, UnknownNativeState
from providers.proxmox.guests import GRACE, LXC, QEMU, Config, Guest, GuestDetails

PANICKED = "guest-panicked"
"""Of a guest that has told QEMU by its pvpanic device, and is kept as it was (QAPI, `RunState`)."""
STATES: Mapping[str, Mapping[str, PowerState]] = {
    QEMU: {
        "running": PowerState.ON,
        "shutdown": PowerState.ON,  # the guest is down, its QEMU not yet
        "stopped": PowerState.OFF,
        "paused": PowerState.PAUSED,
        "prelaunch": PowerState.PAUSED,
        "inmigrate": PowerState.PAUSED,
        "postmigrate": PowerState.PAUSED,
        "finish-migrate": PowerState.PAUSED,
        "save-vm": PowerState.PAUSED,
        "restore-vm": PowerState.PAUSED,
        "io-error": PowerState.PAUSED,
        "internal-error": PowerState.PAUSED,
        PANICKED: PowerState.PAUSED,
        "watchdog": PowerState.PAUSED,
        "debug": PowerState.PAUSED,
        "colo": PowerState.ON,
        "suspended": PowerState.SUSPENDED,
        "unknown": PowerState.UNKNOWN,
    },
    LXC: {"running": PowerState.ON, "stopped": PowerState.OFF, "unknown": PowerState.UNKNOWN},
}

PASSING = {"prelaunch", "inmigrate", "postmigrate", "finish-migrate", "save-vm", "restore-vm"}
"""Pauses that a task brings, and ends."""

PAUSES = {
    "io-error": "its storage failed it; its owner mends the storage and resumes it",
    "internal-error": "QEMU met an error; its owner resets it",
    PANICKED: "its guest crashed; its owner looks into it",
    "watchdog": "its watchdog stopped it; its owner looks into it",
}

LOCKS = {
    "backup": "a backup",
    "clone": "a clone",
    "create": "its creation",
    "destroyed": "its removal",
    "disk": "work on its disks",
    "fstrim": "fstrim",
    "import": "an import",
    "migrate": "a migration",
    "mounted": "somebody who has mounted its disks",
    "rollback": "a rollback",
    "snapshot": "a snapshot",
    "snapshot-delete": "the removal of a snapshot",
    "suspended": "its memory on disk, from which it resumes",
    "suspending": "its suspension to disk",
}
"""`suspended` says of a guest that does not run that it is hibernated."""

HIBERNATED = "suspended"
SAVING = "suspending"

HA_BROKEN = {"error": "HA has given it up (state error)"}
HA_BUSY = {
    "fence": "its node is being fenced",
    "freeze": "HA is frozen there, as while it restarts",
    "migrate": "HA is migrating it",
    "recovery": "HA is recovering it from a failed node",
    "relocate": "HA is relocating it",
    "request_start": "HA is about to start it",
    "request_start_balance": "HA is choosing its node",
}
"""HA states in which a request to stop is lost: the next state wipes it out (`change_service_state`)."""

HA_UNDER_WAY = ("fence", "migrate", "recovery", "relocate")
"""HA states that are brought to their end although HA is to be disarmed (`handle_disarm`)."""

ALWAYS_FORCED = "It is managed by HA, which waits as long as it is told and then always powers off hard."
DISARMED = (
    "It is managed by HA, which is disarmed and ignores it: it is treated like any other guest, and HA may start or "
    "stop it as its configuration says once it is armed again."
)


@dataclass(frozen=True, slots=True)
class _Seen:
    guest: Guest
    details: GuestDetails
    config: Config
    state: PowerState
    may_press: bool


def power_state(guest: Guest) -> PowerState:
    """Its power; UNKNOWN for a status that is in no table, for which `require_known` raises."""
    state = STATES[guest.kind].get(guest.status, PowerState.UNKNOWN)
    if state is not PowerState.OFF:
        return state
    # Its QEMU ends a moment before its lock says that its memory is saved (qemu-server, `vm_suspend`).
    return {HIBERNATED: PowerState.SUSPENDED, SAVING: PowerState.PAUSED}.get(guest.lock, state)


def require_known(guest: Guest) -> None:
    """Check that its power is known.

    Raises:
        HypervisorUnavailable: its node does not answer.
        UnknownNativeState
    """
    if guest.status not in STATES[guest.kind]:
        raise UnknownNativeState(f"Proxmox VE reports the state {guest.status!r}; vmpower's makers must add it.")
    if power_state(guest) is PowerState.UNKNOWN:
        raise HypervisorUnavailable(
            f"The node {guest.node} does not answer, so that the state of {guest.name} is not known; its operator "
            "looks into it, and it is asked again."
        )


def to_vm(guest: Guest, details: GuestDetails, *, may_press: bool = False) -> VM:
    """The VM. `may_press`: whether power buttons may be pressed outside of Proxmox VE's tasks."""
    seen = _Seen(guest, details, details.config or Config(), power_state(guest), may_press)
    return VM(
        id=guest.id,
        name=guest.name,
        power_state=seen.state,
        ended=details.ended if seen.state is PowerState.OFF else None,
        signals=_signals(seen),
        problems=_problems(seen),
        refused="It is a template, which never runs" if guest.template else "",
        delegation=Delegation(
            revocable=_revocable(guest, details.config),
            always_forced=ALWAYS_FORCED if guest.managed else "",
            own_timeout=(seen.config.down if guest.kind == QEMU and not guest.managed else None) or GRACE,
        ),
        node=guest.node,
        labels=_labels(seen),
        aliases=(f"{guest.kind}/{guest.id}",),
        runs_programs=bool(details.answers),
        run_id=details.run or "",
        crashed=guest.status == PANICKED,
        system_uuid=seen.config.system_uuid,
        saved=seen.state is PowerState.SUSPENDED and guest.lock == HIBERNATED,
        save_problems=tuple(_save_problems(seen)),
    )


def _save_problems(seen: _Seen) -> list[Problem]:
    if seen.guest.kind == LXC:
        return [Problem("Its memory cannot be saved: Proxmox VE saves that of no container.")]
    if seen.guest.managed:
        return [
            Problem("Its memory cannot be saved: it is managed by HA, which would start it again.", causes=(Cause.HA,))
        ]
    tied = f"Its memory cannot be saved: it has a device of its node's ({seen.config.tied_by})."
    return [Problem(tied)] if seen.config.tied_by else []


def _revocable(guest: Guest, config: Config | None) -> bool:
    """Not if Proxmox VE may ask by the agent: until the guest is gone, that task waits inside the command, and if it is
    ended there with force, it cuts the power at once (qemu-server, `_do_vm_stop`, the `eval` around guest-shutdown)."""
    return not guest.managed and (guest.kind == LXC or (config is not None and not config.agent))


def _signals(seen: _Seen) -> tuple[Signal, ...]:
    """Proxmox VE chooses by itself: the agent if it is enabled and answers a ping, else ACPI (`_do_vm_stop`).

    HA would start a guest again whose power button we pressed.
    """
    guest, config = seen.guest, seen.config
    if seen.state is not PowerState.ON or guest.lock or _ha_state(guest) in {*HA_BROKEN, *HA_BUSY}:
        return ()
    if guest.kind == LXC:
        return (Signal.INIT,)
    if config.agent and seen.details.answers is not False:
        pressed = config.acpi and seen.may_press and not guest.managed
        return (Signal.GUEST_AGENT, Signal.ACPI) if pressed else (Signal.GUEST_AGENT,)
    return (Signal.ACPI,) if config.acpi else ()


def _problems(seen: _Seen) -> tuple[Problem, ...]:
    found = [*_locked(seen), *_held(seen), *_deaf(seen), *_managed(seen)]
    if seen.config.protection:
        found.append(Problem("It is protected, which keeps it from being removed, not from being switched off."))
    return tuple(found)


def _locked(seen: _Seen) -> list[Problem]:
    guest, holder = seen.guest, seen.details.lock_holder
    if not guest.lock or seen.state is PowerState.SUSPENDED:
        return []
    what = LOCKS.get(guest.lock, "something")
    by = f": {holder}" if holder else ""
    message = f"It is locked ({guest.lock}) by {what}{by}; it is asked when that ends."
    return [Problem(message, Reason.LOCKED, passing=True, causes=(Cause.LOCKED,))]


def _held(seen: _Seen) -> list[Problem]:
    match seen.state:
        case PowerState.PAUSED:
            why = PAUSES.get(seen.guest.status, "its owner resumes it")
            message = f"It is paused ({seen.guest.status}): {why}."
            passing = seen.guest.status in PASSING
            return [Problem(message, Reason.PAUSED, passing=passing, causes=(Cause.PAUSED,))]
        case PowerState.SUSPENDED if seen.guest.lock == HIBERNATED:
            message = "It is hibernated: its memory is saved on disk; a start resumes it."
            return [Problem(message, Reason.SUSPENDED, causes=(Cause.SUSPENDED,))]
        case PowerState.SUSPENDED:
            message = "Its guest sleeps (suspended to RAM); a start wakes it."
            return [Problem(message, Reason.SUSPENDED, causes=(Cause.SUSPENDED,))]
        case PowerState.UNKNOWN:
            message = f"Its state is {seen.guest.status!r} (node {seen.guest.node}); it is asked when that is known."
            return [Problem(message, Reason.COMMAND_FAILED, passing=True, causes=(Cause.UNREACHED,))]
    return []


def _deaf(seen: _Seen) -> list[Problem]:
    config, details = seen.config, seen.details
    if seen.state is not PowerState.ON or seen.guest.kind == LXC:
        return []
    if details.config is None:
        return [Problem("Its configuration has not been read yet: whether it has a guest agent is not known.")]
    found = []
    if details.ping_error:
        message = f"Whether its guest agent answers is not known: {details.ping_error}"
        found.append(Problem(message, causes=(Cause.AGENT_UNKNOWN,)))
    elif config.agent and details.answers is False:
        found.append(_silent("Its guest agent is enabled and does not answer", config, Cause.AGENT_STOPPED))
    elif not config.agent:
        found.append(_silent("Its guest agent is not enabled", config, Cause.AGENT_MISSING))
    return found


def _silent(what: str, config: Config, cause: Cause) -> Problem:
    if config.acpi:
        return Problem(f"{what}; it can be asked by ACPI only.", causes=(cause,))
    message = f"{what}, and ACPI is off in its configuration: it hears no signal."
    return Problem(message, Reason.TOOLS_UNAVAILABLE, causes=(cause, Cause.ACPI_MISSING))


def _managed(seen: _Seen) -> list[Problem]:
    if not seen.guest.in_ha:
        return []
    state = _ha_state(seen.guest)
    if broken := HA_BROKEN.get(state):
        message = f"It is managed by HA, and {broken}: it carries out no request; the cluster's operator looks into it."
        return [Problem(message, Reason.COMMAND_FAILED, causes=(Cause.HA,))]
    message = DISARMED if seen.guest.disarmed else f"{ALWAYS_FORCED} NEVER and ASK are refused."
    found = [Problem(message, causes=(Cause.HA,))]
    if busy := HA_BUSY.get(state):
        message = f"It is managed by HA, and {busy} (state {seen.guest.ha}); it is asked when that ends."
        found.append(Problem(message, Reason.LOCKED, passing=True, causes=(Cause.HA, Cause.LOCKED)))
    return found


def _ha_state(guest: Guest) -> str:
    """What it is for HA now; empty: nothing, as for one that is not managed."""
    return guest.ha if not guest.disarmed or guest.ha in HA_UNDER_WAY else ""


def _labels(seen: _Seen) -> dict[str, str]:
    row, startup = seen.guest, seen.config.startup
    labels = {"kind": row.kind, "tags": row.tags, "pool": row.pool, "ha": row.ha, "startup": startup}
    return {name: value for name, value in labels.items() if value}
