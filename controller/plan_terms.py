"""What the host of plans and those around it say to one another: what is asked for, why it is refused, and what is
declared."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from controller.client import ProviderClient
from controller.models import Provider, VirtualMachine
from controller.plan_scope import Scope
from controller.source import Key, Source
from plans.history import Start
from plans.members import Violation


class RunRefused(Exception):
    """A run does not begin, or is not in a state for what is asked; nothing was done.

    Attributes:
        reason: one word for programs.
        violations: the fields of the plan, or of the run, that are to blame.
    """

    def __init__(self, reason: str, message: str, violations: Iterable[Violation] = ()) -> None:
        super().__init__(message)
        self.reason, self.message, self.violations = reason, message, tuple(violations)


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that is asked for. `resource` and `uid` are of the PowerRun, where there is one. `tiers`: these alone;
    empty: all. `trigger` is what has begun it, where that is no person; `left`: it has to be over after so long.
    `in_part`: what does not answer, or cannot be meant, is left out."""

    plan: Key
    reason: str = ""
    emergency: bool = False
    resource: str = ""
    uid: str = ""
    tiers: tuple[str, ...] = ()
    trigger: str = ""
    left: timedelta | None = None
    in_part: bool = False

    def takes_over(self, other: Start) -> bool:
        """Whether it begins though another run is under way, which it takes over: an emergency one that is none; what
        a UPS says of a plan every run of that plan."""
        return self.emergency and (not other.emergency or (bool(self.trigger) and plan_of(other) == self.plan))

    def goes_beside(self, other: Start) -> bool:
        """Whether it begins beside another run that is under way, with which it shares no VM: what a UPS says waits for
        no emergency of another plan."""
        return self.emergency and bool(self.trigger) and other.emergency and plan_of(other) != self.plan


def resource_of(start: Start) -> Key:
    """The PowerRun that asked for a run."""
    return Key("PowerRun", start.namespace, start.resource)


def plan_of(start: Start) -> Key:
    """That of a run."""
    return Key("PowerPlan", start.namespace, start.plan)


class World(Protocol):
    """What is declared, as the runner knows it."""

    @property
    def source(self) -> Source: ...

    def providers(self) -> Collection[Provider]: ...

    def machine(self, provider: str, vm: str, resource: str) -> VirtualMachine | None:
        """The resource that is bound to a VM of the Provider NAMESPACE/NAME; `resource`: most likely this one, as
        NAMESPACE/NAME; empty: any."""

    def scope(self, namespace: str) -> Scope: ...

    def open(self, provider: Provider) -> ProviderClient:
        """A connection of the caller's own."""

    def wake(self, vms: Collection[tuple[str, str]]) -> None:
        """The resources of these VMs, each given by its Provider and id, have another look."""

    def write_within(self, key: Key, seconds: float) -> None:
        """Have the status of a PowerRun written."""
