"""The commands that only read: `list`, `get`, `info`, `forecast`, `operations`."""

from typing import Annotated

import typer

from cli import render
from cli.app import Format, OneVM, Provider, command, connect
from cli.errors import ExitCode, worst
from cli.options import Output
from protos.power.v1 import power_pb2 as pb


@command("list")
async def list_vms(provider: Provider = "", output: Format = Output.TABLE) -> None:
    """All VMs and how a shutdown of each would go now."""
    async with connect(provider) as client:
        vms = await client.list_vms()
    render.show(output, vms, render.vm_table(vms))


@command("get")
async def get(vm: OneVM, provider: Provider = "", output: Format = Output.TABLE) -> None:
    """One VM."""
    async with connect(provider) as client:
        found = await client.call(pb.GetVMRequest(vm=vm))
    render.show(output, found, render.vm_card(found))


@command("info")
async def info(provider: Provider = "", output: Format = Output.TABLE) -> None:
    """The provider: what it is, what it can do, and whether its hypervisor answers."""
    async with connect(provider) as client:
        found = await client.call(pb.GetProviderInfoRequest())
    render.show(output, found, render.info_card(client.address, found))


@command("forecast")
async def forecast(
    vm: Annotated[str, typer.Argument(metavar="VM", help="Id or unique name; none: all.")] = "",
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 3 if one would be forced, 6 if one is UNKNOWN.")
    ] = False,
    provider: Provider = "",
    output: Format = Output.TABLE,
) -> ExitCode:
    """What a shutdown would do now, without doing it, and what stands in its way."""
    async with connect(provider) as client:
        reply = await client.call(pb.ForecastShutdownRequest(vm=vm))
    render.show(output, reply.vms, render.forecast_table(reply.vms))
    return worst([_check(each) for each in reply.vms]) if check else ExitCode.WANTED


def _check(vm: pb.VM) -> ExitCode:
    match vm.power_state:
        case pb.POWER_STATE_OFF:
            return ExitCode.WANTED
        case pb.POWER_STATE_UNKNOWN:
            return ExitCode.UNKNOWN
    return ExitCode.WANTED if vm.forecast.graceful else ExitCode.FORCED


@command("operations")
async def operations(
    vm: Annotated[str, typer.Argument(metavar="VM", help="Id or unique name; none: all.")] = "",
    active: Annotated[bool, typer.Option("--active", help="Only those that have not ended.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 20,
    provider: Provider = "",
    output: Format = Output.TABLE,
) -> None:
    """Operations, newest first, also those that ended long ago."""
    async with connect(provider) as client:
        found = await client.list_operations(vm, active_only=active, limit=limit)
    render.show(output, found, render.operation_table(found))
