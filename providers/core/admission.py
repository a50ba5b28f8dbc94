"""Whether new work is taken on: while too much waits for the hypervisor already, it is refused before anything is done.

A guest that is asked after its time is over is a guest that is forced without having been asked: it is better refused.
"""

import asyncio
from collections import Counter

from providers.core.errors import HypervisorBusy
from providers.core.lanes import CALLER, Lane, Lanes
from providers.core.model import Kind, State
from providers.core.run import Run

FRESH = 0.1
"""Seconds for which it is taken for granted which operations are not under way yet: to look through thousands for each
of thousands of requests takes longer than to carry them out."""


class Admission:
    """What waits for the hypervisor, by caller: operations that are not under way yet, guests that are to be asked and
    VMs that are to be started. `most`: how many may.

    A caller that has less than its part of that is let in all the same, up to twice as many in all. A PowerOff always
    is: it waits in a lane of its own.
    """

    def __init__(self, lanes: Lanes, most: int) -> None:
        self._lanes, self._most = lanes, most
        self._new = dict[Run, str]()
        """Operations that may not be under way yet, and who began them."""
        self._new_of = Counter[str]()
        """How many of them each caller has."""
        self._looked = float("-inf")

    def require_room(self, kind: Kind) -> None:
        """
        Raises:
            HypervisorBusy: nothing more of this kind is taken on for now.
        """
        if kind is Kind.POWER_OFF or len(self._new) + self._waiting().total() < self._most:
            return
        self._forget_what_is_under_way()
        backlog, own = self._new_of + self._waiting(), CALLER.get()
        has_part = backlog[own] < self._most // len({*backlog, own})
        if backlog.total() < self._most or (has_part and backlog.total() < 2 * self._most):
            return
        seconds = f"{HypervisorBusy.retry_delay.total_seconds():g} s"
        raise HypervisorBusy(
            f"{backlog.total()} requests wait for the hypervisor already; send this again in {seconds}."
        )

    def note(self, run: Run) -> None:
        """An operation that was taken on."""
        if run.operation.request.kind is not Kind.POWER_OFF:
            self._new[run] = CALLER.get()
            self._new_of[CALLER.get()] += 1

    def _forget_what_is_under_way(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._looked + FRESH:
            self._looked = now
            self._new = {run: caller for run, caller in self._new.items() if _is_new(run)}
            self._new_of = Counter(self._new.values())

    def _waiting(self) -> Counter[str]:
        return self._lanes.waiting(Lane.ASK, Lane.START)


def _is_new(run: Run) -> bool:
    """Whether the hypervisor was asked for nothing that the lanes would tell of."""
    return run.in_state(State.PENDING) and not run.operation.starting and not run.closed
