"""What a run has decided before it does anything: which VMs each tier stands for, how they are asked, how long they
need. It is written down, and does not change. Everything is immutable.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from pydantic import BaseModel, ConfigDict

from plans.model import AtDeadline, SaveFallback
from plans.schedule import ZERO, Member, Stage
from protos.power.v1 import power_pb2 as pb

SETTLE: Final = timedelta(seconds=5)
"""From `force_after` until a VM that is forced is known to be off. A tier's time ends with it, so that the tiers behind
one with a deaf guest still begin in time."""
HOOK: Final = timedelta(seconds=30)
"""The timeout of a hook that names none (protos/power/v1/power.proto)."""
LEAST: Final = timedelta(milliseconds=100)
"""Of a hook that has no time left: its provider takes no timeout of 0."""
OTHERS, SELF = "(others)", "(self)"
"""The tiers that no plan writes: running VMs that no tier names, and the VMs that this program runs on. No tier of
a plan can be called so."""


ESCALATIONS: Final = {
    AtDeadline.FORCE: pb.ESCALATION_FORCE,
    AtDeadline.SAVE: pb.ESCALATION_SAVE,
    AtDeadline.STOP: pb.ESCALATION_NEVER,
}
"""What counts instead of the VM's own."""
FALLBACKS: Final = {SaveFallback.FORCE: pb.ESCALATION_FORCE, SaveFallback.NEVER: pb.ESCALATION_NEVER}


class Record(BaseModel):
    """The base of what is written down: nothing unknown gets in."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Target(Record):
    """A VM of a tier. `vm` is its id at the provider; `runs`: it ran when the plan was resolved; `need` is the longest
    that its hooks, its own timeout and the end of a forced stop take, and `save_time` of that what is kept for saving
    its memory; `can_save`: its provider saves memory; `request` is the ShutdownRequest by which it is asked, as proto
    JSON, without what each run adds; `resource` is the VirtualMachine that says so, if one does."""

    provider: str
    vm: str
    name: str
    runs: bool
    need: timedelta
    save_time: timedelta = ZERO
    can_save: bool = True
    request: dict[str, Any] = {}
    resource: str = ""

    @property
    def key(self) -> str:
        """One VM of all providers."""
        return f"{self.provider}/{self.vm}"

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.provider}/{self.name}"

    @property
    def own(self) -> timedelta:
        """What its hooks and its own timeout take together."""
        return max(ZERO, self.need - SETTLE - self.save_time)

    def shutdown(self, time: timedelta) -> pb.ShutdownRequest:
        """The request, of which each call gets its own, for a VM that has so much time. Of less than it needs its hooks
        get their share, as a provider lets them end before it looks at `force_after`."""
        request = ParseDict(self.request, pb.ShutdownRequest(vm=self.vm), ignore_unknown_fields=True)
        share = min(1.0, time / self.own) if self.own else 1.0
        for hook in request.pre_stop:
            hook.timeout.FromTimedelta(max(LEAST, _hook_timeout(hook) * share))
        return request


class FrozenTier(Record):
    """A tier, the names of those that end before it begins, and what is done at the end of its time."""

    name: str
    targets: tuple[Target, ...]
    after: tuple[str, ...] = ()
    minimum: timedelta = ZERO
    at_deadline: AtDeadline = AtDeadline.RESPECT
    save_fallback: SaveFallback = SaveFallback.NEVER

    @property
    def stage(self) -> Stage:
        """As it is scheduled: one that was off takes no time."""
        members = tuple(Member(each.key, each.need) for each in self.targets if each.runs)
        saving = max((each.save_time for each in self.targets if each.runs), default=ZERO)
        return Stage(self.name, members, self.after, self.minimum + SETTLE + saving)

    @property
    def cuts(self) -> bool:
        """Whether what is not off when the tiers' time has passed has its power cut."""
        falls_back = self.at_deadline is AtDeadline.SAVE and self.save_fallback is SaveFallback.FORCE
        return self.at_deadline is AtDeadline.FORCE or falls_back

    def time(self, target: Target, gets: timedelta) -> timedelta:
        """How long one of its VMs has, hooks included, of what the tier gets: its own time, as far as what is done at
        its end leaves that. Where there is less, saving begins later rather than its guest gets less than the minimum:
        memory can be saved after the tier's time, too."""
        time = (min(target.need, gets) if target.runs else gets) - SETTLE
        return max(ZERO, time - target.save_time, min(self.minimum, target.own, time))

    def saves(self, target: Target) -> bool:
        """Whether the memory of one of its VMs is to be saved where it is late."""
        owner = self.at_deadline is AtDeadline.RESPECT and target.request.get("escalation") == "ESCALATION_SAVE"
        return owner or self.at_deadline is AtDeadline.SAVE

    def request(self, target: Target, time: timedelta) -> pb.ShutdownRequest:
        """That of one of its VMs, which has so much time. A provider that saves no memory would refuse to: it is told
        what is done instead."""
        request = target.shutdown(time)
        if self.at_deadline is not AtDeadline.RESPECT:
            request.escalation = ESCALATIONS[self.at_deadline]
            saves = self.at_deadline is AtDeadline.SAVE
            request.save_fallback = FALLBACKS[self.save_fallback] if saves else pb.ESCALATION_UNSPECIFIED
        if request.escalation == pb.ESCALATION_SAVE and not target.can_save:
            request.escalation = request.save_fallback or pb.ESCALATION_NEVER
            request.ClearField("save_fallback")
        return request

    def forces_unsaved(self, target: Target) -> bool:
        """Whether one of its VMs whose memory is to be saved is forced where that cannot be done."""
        if self.at_deadline is AtDeadline.SAVE:
            return self.save_fallback is SaveFallback.FORCE
        return target.request.get("saveFallback") == "ESCALATION_FORCE"


def scheduled(tiers: Sequence[FrozenTier]) -> list[Stage]:
    """Those that share the time of a budget: our own VMs have the reserve, and what is left over."""
    return [tier.stage for tier in tiers if tier.name != SELF]


def target(provider: str, vm: pb.VM, timeout: timedelta, request: pb.ShutdownRequest, resource: str = "") -> Target:
    """A VM that is asked by `request`; without a timeout it has the hypervisor's own for it or, where there is none,
    `timeout`, the provider's default."""
    if request.HasField("timeout"):
        own = request.timeout.ToTimedelta()
    else:
        own = vm.own_timeout.ToTimedelta() if vm.HasField("own_timeout") else timeout
    hooks = map(_hook_timeout, request.pre_stop)
    return Target(
        provider=provider,
        vm=vm.id,
        name=vm.name or vm.id,
        runs=vm.power_state != pb.POWER_STATE_OFF,
        need=sum(hooks, ZERO) + own + SETTLE,
        request=_written(request),
        resource=resource,
    )


def _hook_timeout(hook: pb.Hook) -> timedelta:
    return hook.timeout.ToTimedelta() if hook.HasField("timeout") else HOOK


def _written(request: pb.ShutdownRequest) -> dict[str, Any]:
    """The request as it may be written to disk: without secrets, and without what is said when it is sent."""
    copy = pb.ShutdownRequest()
    copy.CopyFrom(request)
    for field in ("vm", "request_id", "force_after", "timeout"):
        copy.ClearField(field)
    _forget_secrets(copy)
    return MessageToDict(copy)


def _forget_secrets(message: Message) -> None:
    """Clear the fields that the contract marks as `debug_redact`."""
    for field, value in message.ListFields():
        if field.GetOptions().debug_redact:
            message.ClearField(field.name)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for each in [value] if isinstance(value, Message) else value:
                _forget_secrets(each)
