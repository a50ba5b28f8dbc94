"""The `vmpower` command: its root, and what every command shares."""

import asyncio
import functools
import io
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, ParamSpec

import typer
import typer.core

from cli.errors import ExitCode, Failure, complain, usage
from cli.options import Output
from common.version import version

P = ParamSpec("P")
Body = Callable[P, Coroutine[Any, Any, ExitCode | None]]

app = typer.Typer(
    help=(
        "Bring virtual machines down the way their owners want, and hear truthfully how each one went down.\n\n"
        "Exit codes: 0 as wanted; 2 usage, nothing was done; 3 off, but not by itself "
        "(forced, crashed, out of band); 4 failed or refused; 5 unreachable; 6 how, or whether, it went off cannot be "
        "known; 130 interrupted, the work goes on."
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
    typer.Option(*_NAMES, metavar="ADDRESS|NAME", help=f"{_ADDRESS}; else $VMPOWER_PROVIDER, else all that it names."),
]
Format = Annotated[Output, typer.Option("--output", "-o", help="How to print the result.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait for the verdict, or print the operation's id and return.")
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the records: at most 256 characters.")]
VM_HELP = "Id or unique name; with several providers also PROVIDER/NAME."
OneVM = Annotated[str, typer.Argument(metavar="VM", help=VM_HELP)]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vmpower {version()}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    provider: Annotated[
        str, typer.Option(*_NAMES, metavar="ADDRESS|NAME", envvar="VMPOWER_PROVIDER", help=f"{_ADDRESS}.")
    ] = "",
    output: Format = Output.TABLE,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Both options may stand before or after the command's name."""
    shared = {"provider": provider, "output": output.value}
    context.default_map = dict.fromkeys(_names_of(app), shared)
    for group in app.registered_groups:
        if group.name and group.typer_instance:
            context.default_map[group.name] = dict.fromkeys(_names_of(group.typer_instance), shared)


@app.command("help")
def show_help(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="COMMAND", help="None: all commands.")] = "",
) -> None:
    """What the commands do, or how one of them is used."""
    root_context = context.find_root()
    group = root_context.command
    if not name:
        typer.echo(group.get_help(root_context))
        return
    if isinstance(group, typer.core.TyperGroup):
        _, found, _ = group.resolve_command(root_context, [name])
        if found:
            typer.echo(found.get_help(typer.Context(found, parent=root_context, info_name=name)))


def _names_of(group: typer.Typer) -> list[str]:
    return [info.name for info in group.registered_commands if info.name]


def command(name: str, group: typer.Typer = app) -> Callable[[Body[P]], Callable[P, None]]:
    """Register a coroutine as the command `name`: it returns its exit code or raises `Failure`."""

    def register(body: Body[P]) -> Callable[P, None]:
        @group.command(name)
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
