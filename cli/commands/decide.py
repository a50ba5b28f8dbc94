"""The commands about what is under way: `watch`, `extend`, `force`, `cancel`."""

from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from cli import options, render, verdict
from cli.app import Format, Provider, Wait, command, connect
from cli.commands.follow import finish, wait_for_verdict
from cli.errors import ExitCode, usage
from cli.options import Output
from cli.outage import Outage
from cli.progress import Progress
from client.errors import ProviderError
from client.power import PowerClient
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
    async with connect(provider) as client:
        if not target:
            return await _watch_vms(client, output)
        operation = await find_operation(client, target)
        if output is Output.TABLE:
            return await finish(client, [operation], output)
        end = await wait_for_verdict(client, operation, Progress(), lambda changed: render.emit_line(output, changed))
        return verdict.exit_code(end)


async def _watch_vms(client: PowerClient, output: Output) -> ExitCode:
    await client.call(pb.GetProviderInfoRequest())
    outage = Outage(client.address, Progress().note)
    async with aclosing(client.watch_vms(outage.on_break)) as events:
        async for event in events:
            if isinstance(event, pb.GetProviderInfoResponse):
                continue
            outage.over()
            if output is Output.TABLE:
                _print_event(event)
            else:
                render.emit_line(output, event)
    return ExitCode.WANTED


def _print_event(event: pb.WatchVMsResponse) -> None:
    if event.HasField("changed"):
        vm = event.changed
        words = (vm.name, short(pb.PowerState, vm.power_state), render.forecast(vm), vm.active_operation)
        print("\t".join(map(clean, words)).rstrip(), flush=True)
    elif event.HasField("removed"):
        print(clean(event.removed), "gone", sep="\t", flush=True)


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
    provider: Provider = "",
    output: Format = Output.TABLE,
) -> None:
    """Give the guest more time (or less, with --timeout or --until)."""
    if sum(each is not None for each in (by, timeout, until)) != 1:
        raise usage("Say how long, in one way: a DURATION to add, --timeout or --until.")
    async with connect(provider) as client:
        operation = await find_operation(client, target)
        request = pb.ExtendOperationRequest(
            id=operation.id, extension=duration(by), timeout=duration(timeout), force_after=until
        )
        extended = await client.call(request)
    if output is Output.TABLE:
        print(f"{verdict.name(extended)} has {_grace(extended)}.")
    else:
        render.show_verdicts(output, [extended], several=False)


def _grace(operation: pb.Operation) -> str:
    """Until when, or, while hooks run, how long from then on."""
    if operation.HasField("force_after"):
        return f"until {render.local(operation.force_after)}"
    return f"{to_text(operation.timeout.ToTimedelta())} once its hooks have ended"


@command("force")
async def force(target: Target, wait: Wait = True, provider: Provider = "", output: Format = Output.TABLE) -> ExitCode:
    """End the waiting: power the VM off hard now, whatever its escalation says."""
    async with connect(provider) as client:
        found = await find_operation(client, target)
        operation = await client.call(pb.ForceOperationRequest(id=found.id))
        return await finish(client, [operation], output, wait=wait, judge=_ended_as(pb.OPERATION_STATE_SUCCEEDED))


@command("cancel")
async def cancel(target: Target, wait: Wait = True, provider: Provider = "", output: Format = Output.TABLE) -> ExitCode:
    """Give the operation up. A guest that has been asked may still go down; nothing will force it."""
    async with connect(provider) as client:
        found = await find_operation(client, target)
        operation = await client.call(pb.CancelOperationRequest(id=found.id))
        return await finish(client, [operation], output, wait=wait, judge=_ended_as(pb.OPERATION_STATE_CANCELLED))


def _ended_as(state: "pb.OperationState.ValueType") -> Callable[[pb.Operation], ExitCode]:
    return lambda operation: ExitCode.WANTED if operation.state == state else verdict.failure(operation)


async def find_operation(client: PowerClient, name: str) -> pb.Operation:
    """The operation with this id, or the active one of the VM with this id or name.

    Raises:
        Failure: there is neither, or nothing is active on the VM.
    """
    try:
        return await client.call(pb.GetOperationRequest(id=name))
    except ProviderError as error:
        if error.reason != "OPERATION_NOT_FOUND":
            raise
    try:
        vm = await client.call(pb.GetVMRequest(vm=name))
    except ProviderError as error:
        if error.reason == "VM_NOT_FOUND":
            raise usage(f"Neither an operation nor a VM is called {name!r}.") from None
        raise
    if not vm.active_operation:
        raise usage(f"Nothing is under way on {name}; `vmpower operations {name}` tells what was.")
    return await client.call(pb.GetOperationRequest(id=vm.active_operation))
