"""The `vmpower` command: its root, what every command shares, and the commands that only read."""

import asyncio
import functools
import io
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, ParamSpec

import typer

from cli import client as calls
from cli import config, render
from cli.client import Client
from cli.errors import ExitCode, Failure, complain, usage
from cli.options import Output
from protos.power.v1 import power_pb2 as pb

P = ParamSpec("P")
Body = Callable[P, Coroutine[Any, Any, ExitCode | None]]

app = typer.Typer(
    help=(
        "Bring virtual machines down the way their owners want, and hear truthfully how each one went down.\n\n"
        "Exit codes: 0 as wanted; 2 usage, nothing was done; 3 off, but not by itself "
        "(forced, crashed, out of band); 4 failed or refused; 5 unreachable; 130 interrupted, the work goes on."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_NAMES = ("--provider", "-p")
_ADDRESS = "gRPC address of a provider (unix:///path, host:port), or its name in the configuration"
Provider = Annotated[
    str,
    typer.Option(*_NAMES, metavar="ADDRESS|NAME", help=f"{_ADDRESS}; else $VMPOWER_PROVIDER, else its default."),
]
Format = Annotated[Output, typer.Option("--output", "-o", help="How to print the result.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait for the verdict, or print the operation's id and return.")
]
OneVM = Annotated[str, typer.Argument(metavar="VM", help="Id or unique name.")]


@app.callback()
def root(
    context: typer.Context,
    provider: Annotated[
        str, typer.Option(*_NAMES, metavar="ADDRESS|NAME", envvar="VMPOWER_PROVIDER", help=f"{_ADDRESS}.")
    ] = "",
    output: Format = Output.TABLE,
) -> None:
    """Both options may stand before or after the command's name."""
    shared = {"provider": provider, "output": output.value}
    names = [info.name for info in app.registered_commands]
    context.default_map = {name: shared for name in names if name}


def command(name: str) -> Callable[[Body[P]], Callable[P, None]]:
    """Register a coroutine as the command `name`: it returns its exit code or raises `Failure`."""

    def register(body: Body[P]) -> Callable[P, None]:
        @app.command(name)
        @functools.wraps(body)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            raise typer.Exit(_run(body(*args, **kwargs)))

        return run

    return register


def _run(work: Coroutine[Any, Any, ExitCode | None]) -> ExitCode:
    try:
        return asyncio.run(work) or ExitCode.WANTED
    except Failure as failure:
        complain(failure)
        return failure.code
    except UnicodeEncodeError:
        complain(usage("An argument is not UTF-8 text."))
        return ExitCode.USAGE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def connect(provider: str) -> Client:
    """A client for the provider that is meant; use as `async with`.

    Raises:
        Failure: see `config.resolve`.
    """
    return Client(config.resolve(provider))


@command("list")
async def list_vms(provider: Provider = "", output: Format = Output.TABLE) -> None:
    """All VMs and how a shutdown of each would go now."""
    async with connect(provider) as client:
        vms = await calls.all_vms(client)
    render.show(output, vms, render.vm_table(vms))


@command("get")
async def get(vm: OneVM, provider: Provider = "", output: Format = Output.TABLE) -> None:
    """One VM."""
    async with connect(provider) as client:
        found = await client.call(client.stub.GetVM, pb.GetVMRequest(vm=vm))
    render.show_one(output, found, render.vm_card(found))


@command("info")
async def info(provider: Provider = "", output: Format = Output.TABLE) -> None:
    """The provider: what it is, what it can do, and whether its hypervisor answers."""
    async with connect(provider) as client:
        found = await client.call(client.stub.GetProviderInfo, pb.GetProviderInfoRequest())
    render.show_one(output, found, render.info_card(client.address, found))


@command("forecast")
async def forecast(
    vm: Annotated[str, typer.Argument(metavar="VM", help="Id or unique name; none: all.")] = "",
    check: Annotated[bool, typer.Option("--check", help="Exit with 3 if one that is not off would be forced.")] = False,
    provider: Provider = "",
    output: Format = Output.TABLE,
) -> ExitCode:
    """What a shutdown would do now, without doing it, and what stands in its way."""
    async with connect(provider) as client:
        reply = await client.call(client.stub.ForecastShutdown, pb.ForecastShutdownRequest(vm=vm))
    render.show(output, reply.vms, render.forecast_table(reply.vms))
    forced = any(not each.forecast.graceful for each in reply.vms if each.power_state != pb.POWER_STATE_OFF)
    return ExitCode.FORCED if check and forced else ExitCode.WANTED


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
        found = await calls.operations(client, vm, active, limit)
    render.show(output, found, render.operation_table(found))


def main() -> None:
    """Run the command line; whatever is wrong, say it in a sentence."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 is no reason to fail
    try:
        app(prog_name="vmpower")
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        sys.exit(ExitCode.WANTED)
    except Exception as error:
        complain(Failure(f"A fault in vmpower itself: {type(error).__name__}: {error}", ExitCode.FAILED))
        sys.exit(ExitCode.FAILED)
