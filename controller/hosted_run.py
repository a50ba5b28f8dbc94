"""A run that is not released: what is known of it, and what carries it out."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from client.power import WorkRequest
from controller import convert
from controller.client import ProviderClient
from controller.models import VirtualMachine
from controller.source import GuestCredentials, Key
from plans.calls import Calls, Changed, Named
from plans.frozen import FrozenTier, Target
from plans.history import History
from plans.journal import Journal
from plans.run import Run
from protos.power.v1 import power_pb2 as pb


@dataclass(slots=True)
class Hosted:
    """A run that is not released. `journal`: its record is this process's; `run` and `task`: it is carried out, unless
    another run has taken it over. `given_up`: its PowerRun is gone. `is_behind`: the record on the disk is not this
    history, which the PowerRun's status had. `opening`: its record is opened by one at a time. `size` is that of its
    status as last written, in bytes."""

    history: History
    journal: Journal | None = None
    taken_by: str = ""
    given_up: bool = False
    is_behind: bool = False
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    size: int = 0
    run: Run | None = None
    task: asyncio.Task[None] | None = None
    on_pause: list[Callable[[], None]] = field(default_factory=list)
    """Told when it is not carried out any more."""

    def close(self) -> None:
        """Keep no file open."""
        if self.journal is not None:
            self.journal.close()
            self.journal = self.run = None

    def pause(self) -> None:
        """Tell that it is not carried out any more."""
        for told in self.on_pause:
            told()

    @property
    def is_open(self) -> bool:
        """Whether something is done, or is to be done after a restart."""
        under_way = self.task is not None and not self.task.done()
        return under_way or (self.history.released is None and (self.history.closed is None or self.wants_release))

    @property
    def wants_release(self) -> bool:
        """Whether it is released as soon as what it stopped is up."""
        goes_up = self.history.aborted is not None or self.history.bring_up_began is not None
        return goes_up and self.history.taken_over is None and self.history.bring_up_stopped is None

    @property
    def resource(self) -> Key | None:
        """The PowerRun that asked for it."""
        start = self.history.start
        return Key("PowerRun", start.namespace, start.resource) if start.resource else None


class HostedCalls(Calls):
    """Calls that bring what the record leaves out: guests' credentials, and the hooks of VMs that come up."""

    def __init__(
        self,
        clients: Mapping[str, ProviderClient],
        logins: Mapping[str, GuestCredentials],
        machine: Callable[[Target], VirtualMachine | None],
    ) -> None:
        super().__init__(clients)
        self._logins, self._machine = logins, machine

    async def begin(
        self, vm: Named, request: WorkRequest, given_up: Callable[[], bool], in_the_way: Changed | None = None
    ) -> pb.Operation | None:
        if isinstance(vm, Target) and vm.resource and isinstance(request, pb.ShutdownRequest | pb.PowerOnRequest):
            if isinstance(request, pb.PowerOnRequest) and (machine := self._machine(vm)) is not None:
                request.post_start.extend(convert.hooks(machine.spec.lifecycle.post_start))
            if login := convert.credentials(self._logins.get(vm.key)):
                request.guest_credentials.CopyFrom(login)
        return await super().begin(vm, request, given_up, in_the_way)


def targets(history: History) -> Iterable[Target]:
    """All VMs of a run."""
    tiers: Iterable[FrozenTier] = history.start.tiers
    return (target for tier in tiers for target in tier.targets)
