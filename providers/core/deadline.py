"""Who keeps a shutdown's deadline: we do, or the hypervisor, where its adapter is a `DelegatingAdapter`.

Such a hypervisor is told the guest's time with the request; it waits and, with FORCE, cuts the power at the end, also
if this process is gone by then. Before that time changes, or the shutdown is given up, the deadline is taken back: from
then on it is kept here.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

from providers.core.adapter import VM, DelegatingAdapter, Escalation, Grace, Reason
from providers.core.errors import CommandFailed, HypervisorUnavailable, OperationEnded, VmpowerError
from providers.core.lanes import urgent
from providers.core.model import Decision, Operation, Request, Sent, TimeoutOrigin
from providers.core.run import Run

AT_ONCE = timedelta(seconds=1)
"""Within this time of the grace period's beginning, a hypervisor's own time is as good as begun with it."""
ANSWER_SECONDS = 8.0
"""How long somebody who extends a shutdown waits for the hypervisor at most: less than the 10 s that our clients wait,
and more than Proxmox VE takes to end the task of a container (5 s, pve-common, `PVE::RESTEnvironment`)."""


def timeout(request: Request, vm: VM | None, default: timedelta) -> dict[str, Any]:
    """The operation's `timeout` and `timeout_origin`: the caller's, else the hypervisor's own for this VM, else
    `default`."""
    own = vm.delegation.own_timeout if vm and vm.delegation else None
    if request.timeout is not None or request.force_after is not None:
        return {"timeout": request.timeout or own or default, "timeout_origin": TimeoutOrigin.CALLER}
    if own is not None:
        return {"timeout": own, "timeout_origin": TimeoutOrigin.HYPERVISOR}
    return {"timeout": default, "timeout_origin": TimeoutOrigin.DEFAULT}


def of(run: Run) -> "Local":
    """The one that keeps an operation's deadline."""
    return Delegated(run) if hasattr(run.adapter, "withdraw") else Local(run)


async def until_extended(run: Run) -> None:
    """Wait until the guest has the time that an extension gives it: until then the hypervisor would cut its power
    before. No longer than callers wait, though: one who was not answered would extend it once more.

    Raises:
        OperationEnded: the VM went off first, by itself or so.
        CommandFailed: the hypervisor keeps its deadline, or has not given it back yet.
    """

    def is_settled() -> bool:
        sent = _cuts_before(run.operation)
        return sent is None or sent.kept or run.decided or run.operation.state.final

    await run.within(ANSWER_SECONDS, is_settled)
    if (sent := _cuts_before(run.operation)) is None or run.decided:
        return
    if run.operation.state.final:
        await run.until(lambda: run.shown.state.final)
        raise OperationEnded(f"Operation {run.operation.id} ended before the hypervisor had given its deadline back.")
    raise CommandFailed(
        f"The hypervisor may still cut the power at {sent.handed_over:%H:%M:%S} UTC, as it was told, though the guest "
        f"has until {run.force_after:%H:%M:%S} UTC now; the operation's steps say why. Whoever runs the hypervisor may "
        "stop its own task."
    )


def _cuts_before(operation: Operation) -> Sent | None:
    """The signal with which the hypervisor got a deadline that comes before force_after."""
    sent, force_after = operation.asked, operation.force_after
    return sent if sent and sent.handed_over and force_after and sent.handed_over < force_after else None


class Local:
    """We keep it."""

    asks_once = False
    """Whether no further signal is sent after one that was accepted."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def moment(self) -> datetime:
        """When we do as the escalation says."""
        return self._run.force_after

    @property
    def outdated(self) -> bool:
        """Whether the hypervisor would cut the power at a moment that does not hold any more."""
        return False

    async def take_back(self) -> None:
        """Have the hypervisor not cut the power. A refusal becomes a step."""

    def handover(self) -> datetime | None:
        """When the hypervisor will cut the power if a signal is sent now; None: it will not."""
        return None

    def grace(self, sent: Sent) -> Grace:
        """What the hypervisor is told with this signal when it is delivered."""
        return Grace(self._run.force_after, self._run.operation.escalation, self._told_time())

    def cut(self) -> Reason | None:
        """Why the hypervisor cut the power of a VM that is off, as it had been told to; None: it did not."""
        return None

    def left(self) -> bool:
        """Whether the hypervisor's record tells that the guest of a VM that is off has left by itself, though not in as
        many words."""
        return False

    def given_up(self) -> str:
        """What is left of a shutdown that was given up, for people."""
        return "The shutdown was given up; nothing will force the VM off."

    def _told_time(self) -> timedelta | None:
        """What is left, if a caller named the timeout or a part of the hypervisor's own has passed."""
        run, operation = self._run, self._run.operation
        begins = operation.grace_start is not None and run.now() - operation.grace_start < AT_ONCE
        if begins and not operation.timeout_origin.named:
            return None
        return max(run.force_after - run.now(), timedelta(0))


class Delegated(Local):
    """The hypervisor keeps it where it can (`VM.delegation`), and we take over `margin` later."""

    asks_once = True

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._adapter = cast(DelegatingAdapter, run.adapter)

    @property
    def moment(self) -> datetime:
        """At force_after, and later only where the hypervisor does so before."""
        return self._run.force_after + (self._adapter.margin if self._handed else timedelta(0))

    @property
    def outdated(self) -> bool:
        """After an extension, a cancellation or a PowerOn."""
        called_off = self._run.operation.decision in (Decision.CANCEL, Decision.CALL_OFF)
        return self._handed is not None and (called_off or self._handed.handed_over != self._run.force_after)

    async def take_back(self) -> None:
        """Tried again during an outage, for as long as it is of use."""
        run = self._run
        if (handed := self._handed) is None:
            return
        work = run.spawn(self._withdraw())
        await run.until(lambda: work.done() or run.off or run.told_to_force, lambda: self._useful_until(handed))
        if not run.off:
            if work.done():
                await self._note(handed, work.exception())
            elif not run.told_to_force:
                await self._note(handed, HypervisorUnavailable("it does not answer"))
        work.cancel()

    async def _withdraw(self) -> None:
        """And look: what is taken back when it is over has cut the power, and that may be told late."""
        run = self._run
        await run.through_outages(lambda: self._adapter.withdraw(run.vm_id))
        with urgent():
            await run.look()

    def handover(self) -> datetime | None:
        """force_after, if the escalation is FORCE and the hypervisor can do it for this VM."""
        vm, operation = self._run.vm, self._run.operation
        keeps = vm is not None and vm.delegation is not None and vm.delegation.keeps_deadline
        return self._run.force_after if keeps and operation.escalation is Escalation.FORCE else None

    def grace(self, sent: Sent) -> Grace:
        """FORCE is told only while the signal's handover holds."""
        grace = super().grace(sent)
        holds = any(now.handed_over for now in self._run.operation.sent if now.number == sent.number)
        if holds or grace.escalation is not Escalation.FORCE:
            return grace
        return replace(grace, escalation=Escalation.NEVER)

    def cut(self) -> Reason | None:
        """By the hypervisor's own word, or else by how long the guest took."""
        off, sent = self._run.last_seen_off, self._run.operation.asked
        if off is None:
            return None
        if off.ended and off.ended.reason:
            return off.ended.reason
        if sent is None or sent.handed_over is None or off.off_cause:
            return None
        if off.ended is None or off.ended.after is None:  # no record: an always-forced VM past its deadline was forced
            late = bool(off.always_forced) and self._run.now() >= sent.handed_over
        else:
            late = off.ended.after >= sent.handed_over - sent.time
        return Reason.TIMEOUT if late else None

    def left(self) -> bool:
        """Its shutdown ended before the time at which it would have cut the power."""
        off = self._run.last_seen_off
        return bool(off and off.ended and not off.off_cause and off.ended.after is not None and not self.cut())

    def given_up(self) -> str:
        """With a warning, if the hypervisor kept the deadline."""
        if (sent := self._run.operation.asked) and sent.kept and sent.handed_over:
            moment = f"{sent.handed_over:%H:%M:%S} UTC"
            return f"The shutdown was given up, but the hypervisor may still cut the power at {moment}."
        return super().given_up()

    @property
    def _handed(self) -> Sent | None:
        """The signal with which the hypervisor got the deadline that it still keeps and would give back."""
        sent = self._run.operation.asked
        return sent if sent and sent.handed_over and not sent.kept else None

    async def _note(self, handed: Sent, error: BaseException | None) -> None:
        run = self._run
        if error is None:
            changed = run.operation.sent_but(handed.number, handed_over=None)
            await run.record("the hypervisor will not cut the power by itself any more", sent=changed)
            return
        why = error.message if isinstance(error, VmpowerError) else f"{type(error).__name__}: {error}"
        message = f"the hypervisor may still cut the power at {handed.handed_over:%H:%M:%S} UTC: {why}"
        await run.record(message, sent=run.operation.sent_but(handed.number, kept=True))

    def _useful_until(self, handed: Sent) -> datetime:
        """Until the hypervisor has cut the power, or we are to do so."""
        force_after, margin = self._run.force_after, self._adapter.margin
        moment = handed.handed_over or force_after
        return moment + margin if moment == force_after else min(moment + margin, force_after)
