"""The commands that only read: `list`, `get`, `info`, `forecast`, `operations`."""

from typing import Annotated

import typer

from cli import render
from cli.app import VM_HELP, Format, OneVM, Provider, command
from cli.errors import ExitCode, worst
from cli.fleet import Fleet, connect
from cli.options import Output
from protos.power.v1 import power_pb2 as pb

AnyVM = Annotated[str, typer.Argument(metavar="VM", help=f"{VM_HELP} None: all.")]


@command("list")
async def list_vms(provider: Provider = "", output: Format = Output.TABLE) -> ExitCode:
    """All VMs and how a shutdown of each would go now."""
    async with connect(provider) as fleet:
        answers, code = await fleet.collect(lambda member: member.client.list_vms())
    vms = [(member.name, vm) for member, found in answers for vm in found]
    render.show_all(output, vms, render.VMS)
    return code


@command("get")
async def get(vm: OneVM, provider: Provider = "", output: Format = Output.TABLE) -> None:
    """One VM."""
    async with connect(provider) as fleet:
        member, name = await fleet.find(vm)
        with member.failing():
            found = await member.client.call(pb.GetVMRequest(vm=name))
    found.ClearField("sequence")  # it is for programs that also watch
    render.show(output, member.name, found, render.vm_card(found))


@command("info")
async def info(provider: Provider = "", output: Format = Output.TABLE) -> ExitCode:
    """The provider: what it is, what it can do, and whether its hypervisor answers."""
    async with connect(provider) as fleet:
        answers, code = await fleet.collect(lambda member: member.client.call(pb.GetProviderInfoRequest()))
    cards = [render.info_card(member.name, member.client.address, found) for member, found in answers]
    if output is Output.TABLE:
        render.show_cards(cards)
    elif fleet.several:
        render.emit_all(output, [(member.name, found) for member, found in answers])
    else:
        render.show(output, "", answers[0][1], cards[0])
    return code


@command("forecast")
async def forecast(
    vm: AnyVM = "",
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 3 if one would be forced, 6 if one is UNKNOWN.")
    ] = False,
    provider: Provider = "",
    output: Format = Output.TABLE,
) -> ExitCode:
    """What a shutdown would do now, without doing it, and what stands in its way."""
    async with connect(provider) as fleet:
        about, name = await _about(fleet, vm)
        answers, code = await about.collect(lambda member: member.client.call(pb.ForecastShutdownRequest(vm=name)))
    vms = [(member.name, each) for member, reply in answers for each in reply.vms]
    render.show_all(output, vms, render.FORECASTS)
    return worst([code, *(_check(each) for _, each in vms if check)])


async def _about(fleet: Fleet, vm: str) -> tuple[Fleet, str]:
    """The providers to ask, and for which VM; none: all."""
    if not vm:
        return fleet, ""
    member, name = await fleet.find(vm)
    return Fleet([member]), name


def _check(vm: pb.VM) -> ExitCode:
    match vm.power_state:
        case pb.POWER_STATE_OFF:
            return ExitCode.WANTED
        case pb.POWER_STATE_UNKNOWN:
            return ExitCode.UNKNOWN
    return ExitCode.WANTED if vm.forecast.graceful else ExitCode.FORCED


@command("operations")
async def operations(
    vm: AnyVM = "",
    *,
    active: Annotated[bool, typer.Option("--active", help="Only those that have not ended.")] = False,
    by: Annotated[
        str,
        typer.Option(
            "--by", metavar="NAME", help="Only those that this name, or one in its name, asked for: cn:alice, uid:1000."
        ),
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 20,
    provider: Provider = "",
    output: Format = Output.TABLE,
) -> ExitCode:
    """Operations, newest first, also those that ended long ago."""
    async with connect(provider) as fleet:
        about, name = await _about(fleet, vm)
        answers, code = await about.collect(
            lambda member: member.client.list_operations(name, active_only=active, requested_by=by, limit=limit)
        )
    found = [(member.name, operation) for member, operations in answers for operation in operations]
    if about.several:
        found.sort(key=lambda each: each[1].create_time.ToNanoseconds(), reverse=True)
    render.show_all(output, found[:limit], render.OPERATIONS)
    return code
