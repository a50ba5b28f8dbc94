"""How an operation ended, as one true sentence and an exit code."""

from collections.abc import Iterator
from datetime import timedelta

from cli.errors import ExitCode
from cli.proto_text import span
from client.power import PROBE, SHUTDOWNS
from client.times import moment
from client.words import short
from common.text import clean
from protos.power.v1 import power_pb2 as pb

_IN_VAIN = (pb.OPERATION_STATE_FAILED, pb.OPERATION_STATE_CANCELLED)
_NOT_BY_ITSELF = (pb.OUTCOME_FORCED, pb.OUTCOME_CRASHED, pb.OUTCOME_OUT_OF_BAND, pb.OUTCOME_SAVED)
_OUTPUT_LINES = 10
"""How much of a hook's output is shown; all 4 KiB of it are in `-o json`."""


def exit_code(operation: pb.Operation) -> ExitCode:
    """WANTED, FORCED, UNKNOWN or FAILED. A VM that was to be asked must go down by itself; a PowerOff may cut."""
    if operation.state != pb.OPERATION_STATE_SUCCEEDED:
        return failure(operation)
    if operation.kind not in SHUTDOWNS:
        return ExitCode.WANTED
    if operation.verdict.outcome == pb.OUTCOME_UNKNOWN:
        return ExitCode.UNKNOWN
    return ExitCode.FORCED if operation.verdict.outcome in _NOT_BY_ITSELF else ExitCode.WANTED


def exit_code_if_ready(operation: pb.Operation) -> ExitCode:
    """The same of a VM that is to be ready: FAILED unless it is, as far as its provider tells."""
    hooks = operation.verdict.hooks
    is_ready = any(hook.name == PROBE and hook.state == pb.HOOK_STATE_SUCCEEDED for hook in hooks)
    return max(exit_code(operation), ExitCode.WANTED if is_ready else ExitCode.FAILED)


def failure(operation: pb.Operation) -> ExitCode:
    """Of an operation that did not end as wanted: UNKNOWN where the VM is gone from its provider, and may be off."""
    lost = operation.state == pb.OPERATION_STATE_FAILED and operation.verdict.outcome == pb.OUTCOME_UNKNOWN
    return ExitCode.UNKNOWN if lost else ExitCode.FAILED


def name(operation: pb.Operation) -> str:
    """What people call the operation's VM."""
    return clean(operation.vm_name or operation.vm)


def at(provider: str, operation: pb.Operation) -> pb.Operation:
    """The operation as people are told of it where there are several providers: its VM's name with the provider's."""
    if not provider:
        return operation
    named = pb.Operation()
    named.CopyFrom(operation)
    named.vm_name = f"{provider}/{operation.vm_name or operation.vm}"
    return named


def took(operation: pb.Operation) -> timedelta:
    """From the request to the verdict."""
    return moment(operation.verdict.end_time) - moment(operation.verdict.start_time)


def sentence(operation: pb.Operation) -> str:
    """`web: GRACEFUL by GUEST_AGENT after 4.2 s. The guest shut itself down.`"""
    verdict = operation.verdict
    state = short(pb.OperationState, operation.state)
    outcome = short(pb.Outcome, verdict.outcome) or state
    if operation.state in _IN_VAIN and verdict.outcome:
        outcome = f"{state}, {outcome}"
    reason = f" ({short(pb.Reason, verdict.reason)})" if verdict.reason else ""
    signal = f" by {short(pb.Signal, verdict.signal)}" if verdict.signal else ""
    time = f" after {span(took(operation))}" if verdict.HasField("end_time") else ""
    return clean(f"{name(operation)}: {outcome}{reason}{signal}{time}. {_why(operation)}".strip())


def _why(operation: pb.Operation) -> str:
    parts = [operation.verdict.message, operation.error.message]
    return " ".join(dict.fromkeys(part for part in parts if part))


def hook_lines(operation: pb.Operation) -> Iterator[str]:
    """What each hook did, its output's last lines below it."""
    for hook in operation.verdict.hooks:
        state = short(pb.HookState, hook.state)
        code = f", exit code {hook.exit_code}" if hook.exit_code else ""
        yield clean(f"  hook {hook.name}: {state}{code} after {span(hook.duration.ToTimedelta())}")
        for line in hook.output.splitlines()[-_OUTPUT_LINES:]:
            yield clean(f"    {line}")
