"""What the conditions of a VM say, of what was observed. Pure."""

from dataclasses import dataclass
from datetime import datetime

from client.errors import ProviderError
from client.power import has_ended
from controller.annotations import PAUSED, mistakes
from controller.binding import Obstacle
from controller.enums import DesiredPower, Escalation
from controller.fields import word
from controller.models import VirtualMachine
from controller.reconcile import SERVED_BY, Action, Held, Hold, Wait, is_as_wanted, power_is_known, unheard
from controller.status_models import Statement, condition
from protos.power.v1 import power_pb2 as pb

PHASES = {
    pb.OPERATION_KIND_POWER_ON: "PoweringOn",
    pb.OPERATION_KIND_POWER_OFF: "PoweringOff",
    pb.OPERATION_KIND_SHUTDOWN: "ShuttingDown",
    pb.OPERATION_KIND_REBOOT: "Rebooting",
}
LEFT_ALONE = f'{PAUSED}: "true" is set: nothing is begun, and what is under way goes on; remove it to go on.'
HELD = "Run {run} of a plan holds the VM: nothing else is done to it until the run brings it up or releases it."


@dataclass(frozen=True, slots=True)
class Observation:
    """What a status is computed from. `trouble` is why the provider cannot be asked, `error` why it refused, `obstacle`
    why the VM is not this resource's; `hypervisor_problem` is why what is known of the VM may be old; `unread`: the VM
    is known from before the end of its operation."""

    now: datetime
    vm: pb.VM | None = None
    operation: pb.Operation | None = None
    action: Action | None = None
    error: ProviderError | None = None
    trouble: ProviderError | None = None
    obstacle: Obstacle | None = None
    hypervisor_problem: str = ""
    unread: bool = False

    @property
    def active(self) -> pb.Operation | None:
        """The operation, while it is under way."""
        return self.operation if self.operation and not has_ended(self.operation) else None


def statements(resource: VirtualMachine, seen: Observation, acted: bool) -> dict[str, Statement | None]:
    """What is said under each condition's name; None: what it said before. `acted`: the present spec is acted upon."""
    ready = _ready(resource, seen)
    if not acted and resource.status.observed_generation != resource.metadata.generation and ready.status == "True":
        ready = Statement("Unknown", "Pending", "The present spec is not acted upon yet.")
    return {
        "Ready": ready,
        "GracefulShutdownReady": graceful(resource, seen),
        "ProviderReachable": _reachable(seen),
        "HypervisorReachable": _hypervisor(seen),
        "Bound": _bound(resource, seen),
        "Paused": _paused(resource),
        "AnnotationsValid": _annotations(resource),
    }


def is_acted_upon(resource: VirtualMachine, seen: Observation) -> bool:
    """Whether what is done or left is by the present spec."""
    held = isinstance(seen.action, Held)
    hindered = seen.error or seen.trouble or seen.obstacle or resource.metadata.paused or held
    return not hindered and not unheard(seen.action, seen.operation)


def doing(active: pb.Operation) -> str:
    """What an operation does, as a phase."""
    return PHASES.get(active.kind, "Working")


def power_word(vm: pb.VM) -> str:
    """The power state of a VM, as a status has it."""
    return word(pb.PowerState, vm.power_state, "Unknown").capitalize()


def _ready(resource: VirtualMachine, seen: Observation) -> Statement:
    hindered = _hindered(seen)
    if hindered:
        return hindered
    if isinstance(seen.action, Held):
        return Statement("False", "HeldByPlan", HELD.format(run=seen.action.run))
    if seen.active:
        return _under_way(seen.active)
    if resource.metadata.paused:
        return Statement("Unknown", "LeftAlone", LEFT_ALONE)
    if seen.vm is None:
        return _without_vm(resource, seen)
    return _idle(resource, seen, seen.vm)


def _hindered(seen: Observation) -> Statement | None:
    """Why nothing can be done about the VM."""
    problem = seen.error or seen.obstacle
    if problem:
        return Statement("False", problem.reason, problem.message)
    return Statement("Unknown", seen.trouble.reason, seen.trouble.message) if seen.trouble else None


def _idle(resource: VirtualMachine, seen: Observation, vm: pb.VM) -> Statement:
    """Of a VM without an operation."""
    if seen.hypervisor_problem:
        return Statement("Unknown", "HypervisorUnreachable", seen.hypervisor_problem)
    match resource.wanted:
        case None:
            return Statement("True", "NotManaged", "spec.powerState is not set: power is left as it is")
        case wanted if is_as_wanted(resource, wanted, vm):
            return _as_wanted(vm, wanted)
    return _not_as_wanted(resource, vm, seen.action)


def _under_way(active: pb.Operation) -> Statement:
    if active.state == pb.OPERATION_STATE_AWAITING_DECISION:
        by_hand = f"vmpower force, extend or cancel {active.id}"
        choice = f"{by_hand}, change the spec, or, on Kubernetes, annotate it with vmpower/decision"
        return Statement("False", "AwaitingDecision", f"The guest still runs; decide: {choice}.")
    return Statement("False", doing(active), f"Operation {active.id} is under way.")


def _as_wanted(vm: pb.VM, wanted: DesiredPower) -> Statement:
    if wanted is not DesiredPower.ON and vm.power_state == pb.POWER_STATE_SUSPENDED:
        return Statement("True", "Saved", "Its memory is saved and it runs nowhere; powerState On resumes it.")
    if vm.power_state == pb.POWER_STATE_PAUSED:
        return Statement(
            "False", "Paused", "The VM is held by its hypervisor; the person or program that paused it resumes it."
        )
    if vm.power_state == pb.POWER_STATE_SUSPENDED:
        return Statement(
            "False",
            "Suspended",
            "The VM is saved by its hypervisor, as hosts do when they shut down; it is resumed there.",
        )
    return Statement("True", power_word(vm), "The VM is as the spec wants it.")


def _not_as_wanted(resource: VirtualMachine, vm: pb.VM, action: Action | None) -> Statement:
    if not power_is_known(vm):
        return _power_unknown(vm, "Its provider cannot tell whether it runs: nothing is done.")
    record = resource.status.operation
    why = record.message if record else ""
    match action:
        case Hold():
            return Statement("False", "Cancelled", "The operation was cancelled; change the spec to go on.")
        case Wait(until) if record and record.state == pb.OPERATION_STATE_FAILED:
            return Statement("False", "Failed", f"{why} The next attempt begins at {until:%FT%TZ}.".lstrip())
    return Statement("False", "Pending", "The VM is not yet as the spec wants it.")


def _power_unknown(vm: pb.VM, what: str) -> Statement:
    """`what` that means, and why, in the provider's words."""
    return Statement("Unknown", "PowerUnknown", f"{what} {_problems(vm.forecast)}".rstrip())


def _problems(forecast: pb.Forecast) -> str:
    return " ".join(problem.message for problem in forecast.problems)


def _without_vm(resource: VirtualMachine, seen: Observation) -> Statement:
    if power_without_vm(resource) == "Off":
        return Statement("True", "Off", "The VM went off and its hypervisor has forgotten it.")
    return Statement("False", "VMNotFound", f"The provider has no VM {resource.vm_name!r}; check spec.vmName.")


def power_without_vm(resource: VirtualMachine) -> str:
    """A VM without a definition (libvirt: transient) vanishes when it goes off."""
    record, wanted = resource.status.operation, resource.wanted
    kinds = wanted and wanted is not DesiredPower.ON and SERVED_BY[wanted]
    if record and kinds and record.state == pb.OPERATION_STATE_SUCCEEDED and record.kind in kinds:
        return "Off"
    return "Unknown"


def graceful(resource: VirtualMachine, seen: Observation) -> Statement | None:
    """Whether the guest would go down by itself; None: as was said before."""
    known = condition(resource.status.conditions, "GracefulShutdownReady") is not None
    if known and (seen.active or seen.trouble):
        return None
    if seen.trouble:
        return Statement("Unknown", "NotYetKnown")
    if seen.obstacle:
        return Statement("Unknown", seen.obstacle.reason, "Its VM is not this resource's.")
    if seen.vm is None or seen.vm.power_state == pb.POWER_STATE_OFF or _is_saved_as_wanted(resource, seen.vm):
        return Statement("Unknown", "NotRunning", "There is no guest to ask.")
    if not power_is_known(seen.vm):
        return _power_unknown(seen.vm, "Whether there is a guest to ask cannot be told.")
    return _forecast(seen.vm.forecast, resource.spec.lifecycle.escalation is Escalation.SAVE)


def _is_saved_as_wanted(resource: VirtualMachine, vm: pb.VM) -> bool:
    graceful = resource.wanted is DesiredPower.OFF_GRACEFUL and vm.power_state == pb.POWER_STATE_SUSPENDED
    return graceful and is_as_wanted(resource, DesiredPower.OFF_GRACEFUL, vm)


def _forecast(forecast: pb.Forecast, saves: bool) -> Statement:
    """`saves`: its memory is to be saved at the deadline, so that what keeps it from that is told, too."""
    unsaved = " ".join(problem.message for problem in forecast.save_problems) if saves else ""
    problems = f"{_problems(forecast)} {unsaved}".strip()
    if forecast.graceful:
        signals = ", ".join(word(pb.Signal, signal) for signal in forecast.signals)
        return Statement("True", "Graceful", f"The guest would be asked by {signals}. {problems}".rstrip())
    reasons = (word(pb.Reason, problem.reason, "") for problem in forecast.problems)
    return Statement("False", next(filter(None, reasons), "NotGraceful"), problems)


def _reachable(seen: Observation) -> Statement:
    if seen.trouble and seen.trouble.reason != "HypervisorUnreachable":
        return Statement("False", seen.trouble.reason, seen.trouble.message)
    return Statement("True", "Connected")


def _hypervisor(seen: Observation) -> Statement:
    trouble = seen.trouble
    if trouble and trouble.reason != "HypervisorUnreachable":
        return Statement("Unknown", trouble.reason, "Its provider cannot be asked.")
    problem = trouble.message if trouble else seen.hypervisor_problem
    return Statement("False", "HypervisorUnreachable", problem) if problem else Statement("True", "Connected")


def _bound(resource: VirtualMachine, seen: Observation) -> Statement:
    problem, binding = seen.obstacle or seen.error, resource.status.vm
    if problem and (seen.obstacle or binding is None):
        return Statement("False", problem.reason, problem.message)
    if binding is not None:
        return Statement("True", "Bound", f"VM {binding.id} of {binding.hypervisor}")
    return Statement("Unknown", "NotYetFound", "Its spec has led to no VM yet.")


def _paused(resource: VirtualMachine) -> Statement | None:
    if resource.metadata.paused:
        return Statement("True", "Annotated", LEFT_ALONE)
    return Statement("False", "NotAnnotated") if condition(resource.status.conditions, "Paused") else None


def _annotations(resource: VirtualMachine) -> Statement | None:
    found = " ".join(mistakes(resource.metadata.annotations))
    if found:
        return Statement("False", "InvalidAnnotation", found)
    return Statement("True", "Valid") if condition(resource.status.conditions, "AnnotationsValid") else None
