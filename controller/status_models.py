"""The status of the resources: what the controller knows, as it is written beside each spec."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from client.power import ENDED
from common.durations import GoDuration
from controller.fields import Kind, Model, Sentence, State


class Condition(Model):
    """One statement about a resource, since when it holds, and the spec that it was made about."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: Sentence = ""
    last_transition_time: datetime
    observed_generation: int = 0


@dataclass(frozen=True, slots=True)
class Statement:
    """A condition without its time."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


def condition(conditions: tuple[Condition, ...], name: str) -> Condition | None:
    """That of this type, if there is one."""
    return next((each for each in conditions if each.type == name), None)


def is_true(conditions: tuple[Condition, ...], name: str) -> bool:
    """Whether that of this type is there, and True."""
    found = condition(conditions, name)
    return found is not None and found.status == "True"


class OperationStatus(Model):
    """The operation that was last started for this resource.

    `id` is empty once the provider does not know it (any more). `generation` is the spec it serves;
    `attempt` counts operations within it. `reason` is why it was asked for, in a person's words. `timeout` is the grace
    period that the spec gave it. `message` is why it failed. All times are by the provider's clock, which may be
    another, but for `observed_end_time`: when this controller learned of the end, by its own.
    """

    id: str
    kind: Kind
    state: State
    start_time: datetime
    end_time: datetime | None = None
    observed_end_time: datetime | None = None
    force_after: datetime | None = None
    timeout: GoDuration | None = None
    generation: int
    attempt: int
    message: Sentence = ""
    reason: Sentence = ""

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class HookStatus(Model):
    """How one hook ended."""

    name: str
    state: str
    exit_code: int = 0
    output: str = ""
    duration_seconds: float = 0


class LastPowerOff(Model):
    """The verdict of the last attempt to bring the VM down, by this controller or another client: `requested_by` is who
    asked as the provider knows it, `on_behalf_of` and `request_reason` are what the client added. `resumed`: of one
    that was SAVED, or that left the VM as one before it had saved it (then it is false at first), whether the VM was
    seen running, or off, since."""

    operation: str
    outcome: str
    reason: str = ""
    signal: str = ""
    start_time: datetime
    completion_time: datetime
    duration_seconds: float
    timeout_seconds: float | None = None
    hooks: tuple[HookStatus, ...] = ()
    message: Sentence = ""
    requested_by: Sentence = ""
    on_behalf_of: Sentence = ""
    request_reason: Sentence = ""
    resumed: bool | None = None

    @property
    def left_saved(self) -> bool:
        """Whether the VM's memory is saved, as far as operations tell: `On` resumes it."""
        return not self.resumed and (self.outcome == "SAVED" or self.resumed is False)


class Binding(Model):
    """The one VM that a resource is about, from when it was first found.

    `provider` is the uid of the Provider that it was found by, `hypervisor` what its `id` is unique within
    (controller/binding.py). `provider_ref` ("namespace/name") and `name` are what the spec named then. `first_attempt`
    is the number of the first attempt for this VM: those before were for another one.
    """

    provider: str
    hypervisor: str
    id: str
    provider_ref: str
    name: str
    since: datetime
    first_attempt: int = 1


class VirtualMachineStatus(Model):
    """What the controller knows of a VM. `observed_generation` is the last spec that was acted upon; `held_by` is the
    run of a plan that the VM is left to."""

    id: str = ""
    vm: Binding | None = None
    phase: str = "Pending"
    power_state: str = "Unknown"
    held_by: str | None = None
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    operation: OperationStatus | None = None
    last_power_off: LastPowerOff | None = None

    def record_of(self, operation: str) -> OperationStatus | None:
        """Its record, where the operation of this id is the last that was started for the resource."""
        return self.operation if self.operation and self.operation.id == operation else None


class Capabilities(Model):
    """What a provider can do: the signals it knows, programs in guests, snapshots."""

    signals: tuple[str, ...] = ()
    guest_exec: bool = False
    snapshot: bool = False


class ProviderStatus(Model):
    """What the controller knows of a provider. `vm_count` is how many VMs it serves, `declared_count` how many
    resources name it."""

    phase: str = "Pending"
    observed_generation: int = 0
    type: str = ""
    version: str = ""
    capabilities: Capabilities = Capabilities()
    vm_count: int = 0
    declared_count: int = 0
    conditions: tuple[Condition, ...] = ()


def conditions(
    old: tuple[Condition, ...], statements: dict[str, Statement | None], now: datetime, generation: int
) -> tuple[Condition, ...]:
    """The conditions with their transition times. A statement of None leaves a condition as it is, or away."""
    known = {condition.type: condition for condition in old}
    for name, said in statements.items():
        before = known.get(name)
        if said is None:
            continue
        since = before.last_transition_time if before and before.status == said.status else now
        known[name] = Condition(
            type=name,
            status=said.status,
            reason=said.reason,
            message=said.message,
            last_transition_time=since,
            observed_generation=generation,
        )
    return tuple(known.values())
