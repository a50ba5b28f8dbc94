"""The machines that this controller runs on, and whose plans may bring them down: those of one namespace, which the
operator names, where they write `self: Last`.

Which ones they are is told by where resources come from: this host, or all nodes of the cluster.
"""

import asyncio
from collections.abc import Collection, Iterator
from functools import partial

import structlog

from common.backoff import Backoff
from controller.last_known import LastKnown
from controller.models import PowerPlan
from controller.plan_terms import RunRefused
from controller.source import Source, SourceError
from plans.freeze import Frozen
from plans.frozen import SELF
from plans.members import OwnVMUnclear, Violation

FIELD = "self"
READ_TIME = 5.0
"""Seconds in which it is read at the begin of a run which machines are ours. The API server may be what an outage took
first."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
"""Seconds before that is read again which could not be read yet."""
NOT_ALLOWED = (
    "no plan of this namespace may bring down what the controller runs on: leave it out, or the controller's operator "
    "names this namespace (--self-namespace; the chart's controller.selfLast names the release's)"
)

log = structlog.get_logger()


class OwnMachines:
    """Those of this controller, as they were last read."""

    def __init__(self, namespace: str) -> None:
        """`namespace` is that of the plans that may bring them down; empty: none may."""
        self._namespace = namespace
        self._machines = LastKnown[tuple[str, ...]]("the machines that this controller runs on")

    def violations(self, plan: PowerPlan) -> Iterator[Violation]:
        """Where a plan means our machines and may not."""
        allowed = self._namespace and plan.metadata.namespace == self._namespace
        if plan.spec.own is not None and not allowed:
            yield Violation(FIELD, NOT_ALLOWED)

    async def learn(self, source: Source) -> None:
        """Read them as soon as they can be read: an outage may take the API server before a run begins."""
        pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while self._namespace and self._machines.known is None:
            try:
                await self._machines.read(partial(_read, source))
            except SourceError as error:
                log.warning("the machines that this controller runs on are not known yet", error=str(error))
                await asyncio.sleep(pauses.next())

    async def of(self, plan: PowerPlan, source: Source) -> Collection[str]:
        """The UUIDs of those that a plan brings down last; none where it does not say so. Where they cannot be read
        now, those that were read last count.

        Raises:
            RunRefused: they could never be read.
        """
        if plan.spec.own is None:
            return ()
        try:
            return await self._machines.read(partial(_read, source))
        except SourceError as error:
            message = f"It is not known which machines the controller runs on; nothing was done. {error}"
            raise RunRefused("OWN_UNKNOWN", message, [Violation(f"spec.{FIELD}", "is not known")]) from error


async def _read(source: Source) -> tuple[str, ...]:
    """
    Raises:
        SourceError
    """
    try:
        async with asyncio.timeout(READ_TIME):
            return tuple(await source.own_machines())
    except TimeoutError as error:
        raise SourceError(f"There was no answer in {READ_TIME:g} s.") from error


def unclear(error: OwnVMUnclear) -> Violation:
    """Several VMs have the UUID of one of our machines."""
    message = f"{error.own}, of a machine that the controller runs on, may be any of {error.found}"
    return Violation(FIELD, f"{message}; the hypervisor's administrator gives each a UUID of its own")


def tell_if_none(plan: PowerPlan, own: Collection[str], frozen: Frozen) -> None:
    """Log that none of our machines is among the VMs of a plan that brings them down last."""
    if own and not any(tier.name == SELF for tier in frozen.tiers):
        name = f"{plan.metadata.namespace}/{plan.metadata.name}"
        log.warning("none of the machines that this controller runs on is at the plan's providers", plan=name)
