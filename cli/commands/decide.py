"""The commands about what is under way: `watch`, `extend`, `force`, `cancel`."""

from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from cli import options, render, verdict
from cli.app import Format, Provider, Reason, Wait, command
from cli.commands.follow import Running, finish, wait_for_verdict
from cli.errors import ExitCode, Failure, usage
from cli.fleet import Fleet, Member, connect
from cli.options import Output
from cli.outage import Outage
from cli.progress import Progress
from client.times import duration
from client.words import short
from common.durations import to_text
from common.text import clean
from protos.power.v1 import power_pb2 as pb

Target = Annotated[
    str, typer.Argument(metavar="OPERATION|VM", help="An operation's id, or a VM on which one is active.")
]


@command("watch")
async def watch(
    target: Annotated[
        str, typer.Argument(metavar="OPERATION|VM", help="What to follow; none: every VM, until Ctrl-C.")
    ] = "",
    provider: Provider = "",
    output: Format = Output.TABLE,
) -> ExitCode:
    """Follow an operation to its verdict, or every VM as it changes. With -o json: a line for each change."""
    async with connect(provider) as fleet:
        if not target:
            return await _watch_vms(fleet, output)
        running = await find_operation(fleet, target)
        if output is Output.TABLE:
            return await finish([running], output)
        name = running.member.name
        end = await wait_for_verdict(running, Progress(), lambda changed: render.emit_line(output, name, changed))
        return verdict.exit_code(end.operation)


async def _watch_vms(fleet: Fleet, output: Output) -> ExitCode:
    """All at once, until Ctrl-C, or until none can be followed any more."""
    _, code = await fleet.collect(lambda member: _watch_member(member, output))
    return code


async def _watch_member(member: Member, output: Output) -> None:
    await member.client.call(pb.GetProviderInfoRequest())
    outage = Outage(member.client.address, Progress().note)
    async with aclosing(member.client.watch_vms(outage.on_break)) as events:
        async for event in events:
            if isinstance(event, pb.GetProviderInfoResponse):
                continue
            outage.over()
            if output is Output.TABLE:
                _print_event(member.name, event)
            else:
                render.emit_line(output, member.name, event)


def _print_event(provider: str, event: pb.WatchVMsResponse) -> None:
    place = f"{clean(provider)}\t" if provider else ""
    if event.HasField("changed"):
        vm = event.changed
        words = (vm.name, short(pb.PowerState, vm.power_state), render.forecast(vm), vm.active_operation)
        print(place + "\t".join(map(clean, words)).rstrip(), flush=True)
    elif event.HasField("removed"):
        print(f"{place}{clean(event.removed)}\tgone", flush=True)


@command("extend")
async def extend(
    target: Target,
    *,
    by: Annotated[
        timedelta | None,
        typer.Argument(parser=options.duration, metavar="DURATION", help="Added to force_after: 60s, 5m."),
    ] = None,
    timeout: Annotated[
        timedelta | None,
        typer.Option(parser=options.duration, metavar="DURATION", help="A new grace period, from its beginning."),
    ] = None,
    until: Annotated[
        Timestamp | None,
        typer.Option(parser=options.moment, metavar="RFC3339", help="The new moment itself."),
    ] = None,
    reason: Reason = "",
    provider: Provider = "",
    output: Format = Output.TABLE,
) -> None:
    """Give the guest more time (or less, with --timeout or --until)."""
    if sum(each is not None for each in (by, timeout, until)) != 1:
        raise usage("Say how long, in one way: a DURATION to add, --timeout or --until.")
    async with connect(provider) as fleet:
        member, operation = await find_operation(fleet, target)
        request = pb.ExtendOperationRequest(
            id=operation.id, extension=duration(by), timeout=duration(timeout), force_after=until, reason=reason
        )
        with member.failing():
            extended = await member.client.call(request)
    if output is Output.TABLE:
        print(f"{verdict.name(verdict.at(member.name, extended))} has {_grace(extended)}.")
    else:
        render.show_verdicts(output, [(member.name, extended)], several=False)


def _grace(operation: pb.Operation) -> str:
    """Until when, or, while hooks run, how long from then on."""
    if operation.HasField("force_after"):
        return f"until {render.local(operation.force_after)}"
    return f"{to_text(operation.timeout.ToTimedelta())} once its hooks have ended"


@command("force")
async def force(
    target: Target, wait: Wait = True, reason: Reason = "", provider: Provider = "", output: Format = Output.TABLE
) -> ExitCode:
    """End the waiting: power the VM off hard now, whatever its escalation says."""
    async with connect(provider) as fleet:
        ended_as = pb.OPERATION_STATE_SUCCEEDED
        return await _end(fleet, target, pb.ForceOperationRequest(reason=reason), ended_as, output=output, wait=wait)


@command("cancel")
async def cancel(
    target: Target, wait: Wait = True, reason: Reason = "", provider: Provider = "", output: Format = Output.TABLE
) -> ExitCode:
    """Give the operation up. A guest that has been asked may still go down; nothing will force it."""
    async with connect(provider) as fleet:
        ended_as = pb.OPERATION_STATE_CANCELLED
        return await _end(fleet, target, pb.CancelOperationRequest(reason=reason), ended_as, output=output, wait=wait)


async def _end(
    fleet: Fleet,
    target: str,
    request: pb.ForceOperationRequest | pb.CancelOperationRequest,
    wanted: "pb.OperationState.ValueType",
    *,
    output: Output,
    wait: bool,
) -> ExitCode:
    """Have an operation ended by this request, and judge whether it ended as wanted."""
    member, found = await find_operation(fleet, target)
    request.id = found.id
    with member.failing():
        operation = await member.client.call(request)
    return await finish([Running(member, operation)], output, wait=wait, judge=_ended_as(wanted))


def _ended_as(state: "pb.OperationState.ValueType") -> Callable[[pb.Operation], ExitCode]:
    return lambda operation: ExitCode.WANTED if operation.state == state else verdict.failure(operation)


async def find_operation(fleet: Fleet, name: str) -> Running:
    """The operation with this id, wherever it is, or the active one of the VM with this id or name.

    Raises:
        Failure: there is neither, or nothing is active on the VM.
    """
    answers = await fleet.ask(lambda member: member.client.call(pb.GetOperationRequest(id=name)))
    for member, answer in answers:
        if isinstance(answer, pb.Operation):
            return Running(member, answer)
    for _, answer in answers:
        if isinstance(answer, Failure) and answer.reason != "OPERATION_NOT_FOUND" and not fleet.several:
            raise answer
    member, vm = await _find_vm(fleet, name)
    if not vm.active_operation:
        raise usage(f"Nothing is under way on {name}; `vmpower operations {name}` tells what was.")
    with member.failing():
        return Running(member, await member.client.call(pb.GetOperationRequest(id=vm.active_operation)))


async def _find_vm(fleet: Fleet, name: str) -> tuple[Member, pb.VM]:
    try:
        member, vm = await fleet.find(name)
        with member.failing():
            return member, await member.client.call(pb.GetVMRequest(vm=vm))
    except Failure as failure:
        if failure.reason == "VM_NOT_FOUND":
            raise usage(f"Neither an operation nor a VM is called {name!r}.") from None
        raise
