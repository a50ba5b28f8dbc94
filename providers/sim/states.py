"""A guest of the sim as the VM of the adapter protocol."""

from providers.core.adapter import VM, Cause, Ended, PowerState, Problem, Reason, Signal
from providers.sim.guest import Guest, is_being_saved, power_state, signals

HELD = {
    PowerState.PAUSED: Problem(
        "It is paused and hears nothing; resume it first.", Reason.PAUSED, causes=(Cause.PAUSED,)
    ),
    PowerState.SUSPENDED: Problem(
        "It is suspended and hears nothing; start it first.", Reason.SUSPENDED, causes=(Cause.SUSPENDED,)
    ),
}
SAVING = Problem("Its memory is being saved, and it is stopped then.", Reason.PAUSED, True, causes=(Cause.LOCKED,))


def to_vm(guest: Guest, now: float) -> VM:
    state = power_state(guest, now)
    script = guest.script
    return VM(
        id=guest.id,
        name=guest.name,
        power_state=state,
        ended=Ended(guest.off_cause) if state is PowerState.OFF and guest.off_cause else None,
        signals=signals(guest, now),
        problems=_problems(guest, now),
        refused="It is a template: clone it and start the clone." if script.template else "",
        node=script.node,
        labels=script.labels,
        addresses=script.addresses if state is PowerState.ON else (),
        run_id=f"{guest.powered_at:.6f}" if _runs(guest, state) else "",
        system_uuid=guest.id,
        saved=state is PowerState.SUSPENDED,
        save_problems=(Problem(f"It cannot be saved: {script.unsavable}."),) if script.unsavable else (),
    )


def _runs(guest: Guest, state: PowerState) -> bool:
    """Whether it is in a run, which ends for one whose memory was saved."""
    saved = state is PowerState.SUSPENDED and guest.saved_at is not None
    return state is not PowerState.OFF and not saved and guest.powered_at is not None


def _problems(guest: Guest, now: float) -> tuple[Problem, ...]:
    state, script = power_state(guest, now), guest.script
    if state is PowerState.OFF:
        return ()
    if state in HELD:
        return (SAVING if is_being_saved(guest, now) else HELD[state],)
    if script.question:
        question = f"The hypervisor waits for an answer: {script.question}"
        return (Problem(question, Reason.QUESTION_PENDING, causes=(Cause.QUESTION,)),)
    if script.locked:
        return (Problem(f"It is locked: {script.locked}.", Reason.LOCKED, passing=True, causes=(Cause.LOCKED,)),)
    return _hearing(guest, now)


def _hearing(guest: Guest, now: float) -> tuple[Problem, ...]:
    heard = signals(guest, now)
    if not heard:
        deaf = "No agent answers and it has no ACPI; install qemu-guest-agent in it or give it ACPI."
        agent = Cause.AGENT_MISSING if guest.script.agent == "none" else Cause.AGENT_STOPPED
        return (Problem(deaf, Reason.TOOLS_UNAVAILABLE, causes=(agent, Cause.ACPI_MISSING)),)
    problems = []
    if guest.script.agent != "none" and Signal.GUEST_AGENT not in heard:
        message = "A guest agent is configured but not running; start it in the guest."
        problems.append(Problem(message, causes=(Cause.AGENT_STOPPED,)))
    if guest.script.on_shutdown == "reboot":
        message = "It restarts when it shuts down (on_poweroff=restart)."
        problems.append(Problem(message, causes=(Cause.RESTARTS,)))
    return tuple(problems)
