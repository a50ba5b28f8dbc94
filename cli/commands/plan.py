"""`plan`: one ordered shutdown over several providers inside one time: what it would do, doing it, and what it did."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from cli import plans, render
from cli.app import Format, app, command
from cli.errors import ExitCode, Failure, usage
from cli.files import read_as
from cli.options import Output
from cli.plan_client import change
from cli.plan_runs import (
    NO_PLAN,
    File,
    Own,
    StateDir,
    attended,
    clients_of,
    clients_of_all,
    folder,
    frozen_now,
    readable,
    resumed,
    tell,
)
from client.power import PowerClient
from plans.calls import Calls
from plans.clock import Clock
from plans.history import Closed, History
from plans.journal import Journal, JournalError, Runs
from plans.model import PowerPlan
from plans.run import Run
from protos.plan.v1.plan_pb2 import BringUpRequest

group = typer.Typer(
    help="One ordered shutdown over all providers of the configuration, inside one time.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(group, name="plan")

Controller = Annotated[
    str,
    typer.Option(
        "--controller",
        metavar="ADDRESS",
        envvar="VMPOWER_CONTROLLER",
        help="gRPC address of the controller that hosts the run (unix:///path, host:port); else a run of this host.",
    ),
]
RunName = Annotated[str, typer.Argument(metavar="[RUN]", help="The name of a run; default: the latest.")]
LEFT = "No process carried it out to its end."


@command("forecast", group)
async def forecast(
    file: File,
    *,
    own: Own = "",
    check: Annotated[bool, typer.Option("--check", help="Exit with 3 if a VM gets less time than it needs.")] = False,
    output: Format = Output.TABLE,
) -> ExitCode:
    """What a run would do now, tier by tier, and whether it fits. No guest is touched."""
    manifest, clock = read_as(PowerPlan, file, NO_PLAN), Clock()
    async with clients_of_all() as clients:
        frozen = await frozen_now(manifest, clients, clock, own)
    start = frozen.start(manifest.metadata.name, manifest.spec, clock())
    if output is Output.TABLE:
        render.show_table(plans.forecast_tree(start, frozen))
    else:
        render.emit(output, plans.forecast_data(start, frozen))
    return ExitCode.FORCED if check and plans.lacks_time(start) else ExitCode.WANTED


@command("run", group)
async def run(
    file: File,
    *,
    own: Own = "",
    leave_self: Annotated[
        bool,
        typer.Option("--leave-self", help="The VM that this command runs on is left alone: it goes down already."),
    ] = False,
    state_dir: StateDir = None,
    output: Format = Output.TABLE,
) -> ExitCode:
    """Bring down what the plan says, and wait for the end. A run that was left is taken up again. Ctrl-C aborts it:
    no further tier begins, and what it stopped comes up again if the plan says so."""
    manifest, clock, runs = read_as(PowerPlan, file, NO_PLAN), Clock(), Runs(folder(state_dir))
    async with clients_of_all() as clients:
        history, journal = await _taken_up(manifest, clients, runs, clock) or await _begun(
            manifest, clients, runs, clock, own, leave_self=leave_self
        )
        try:
            history.listeners.append(lambda event: tell(history, event))
            await _until_its_end(Run(history, journal, Calls(clients_of(history, clients)), clock))
        finally:
            journal.close()
    show(output, history)
    return plans.exit_code(history)


@command("report", group)
async def report(name: RunName = "", *, state_dir: StateDir = None, output: Format = Output.TABLE) -> ExitCode:
    """What a run has done: when each tier began and ended, and how each VM went down. Its exit code is the run's."""
    history = _found(name, Runs(folder(state_dir)), state_dir)
    show(output, history)
    return plans.exit_code(history)


@command("up", group)
async def up(
    name: RunName = "", *, controller: Controller = "", state_dir: StateDir = None, output: Format = Output.TABLE
) -> ExitCode:
    """Start what a run has stopped, the tiers in reverse, each when those behind it are ready: its plan's bringUp. With
    --controller a run that is hosted there, whose VMs are released then."""
    if controller:
        await change(controller, BringUpRequest(run=name))
        return ExitCode.WANTED
    runs, clock = Runs(folder(state_dir)), Clock()
    history, journal = resumed(runs, _found(name, runs, state_dir).start.run)
    try:
        if history.start.spec.bring_up is None:
            raise usage(f"The plan of {history.start.run} has no bringUp, so that nothing is started.")
        if history.closed is None and clock() < history.ends:
            raise usage(f"Run {history.start.run} has not ended: vmpower plan run FILE takes it up again.")
        history.listeners.append(lambda event: tell(history, event))
        async with clients_of_all() as clients:
            carried_out = Run(history, journal, Calls(clients_of(history, clients)), clock)
            await carried_out.end(LEFT)
            await carried_out.bring_up(anew=True)
    finally:
        journal.close()
    show(output, history)
    return ExitCode.WANTED if all(each.ready for each in history.up.values()) else ExitCode.FAILED


def _found(name: str, runs: Runs, state_dir: Path | None) -> History:
    """The run of this name, or the latest.

    Raises:
        Failure: there is none.
    """
    try:
        history = runs.read(name) if name else next(reversed(readable(runs)), None)
    except JournalError as error:
        raise usage(str(error)) from None
    if history is None:
        raise usage(f"There is no run in {_readable(folder(state_dir))}.")
    return history


def _readable(records: Path) -> Path:
    """
    Raises:
        Failure: whether there is a run in it cannot be seen.
    """
    try:
        with suppress(FileNotFoundError):
            os.scandir(records).close()
    except OSError as error:
        raise usage(f"{records} cannot be read: {error.strerror}.") from None
    return records


async def _taken_up(
    manifest: PowerPlan, clients: Mapping[str, PowerClient], runs: Runs, clock: Clock
) -> tuple[History, Journal] | None:
    """The run of this plan that was left, if there is time for it still. One that was left longer ago is closed: what
    it had asked may have gone down since, and comes up with it.

    Raises:
        Failure: a run of another plan is under way, or another process carries it out.
    """
    try:
        for left in [history for history in readable(runs) if history.closed is None]:
            history, journal = resumed(runs, left.start.run)
            if clock() < history.ends and history.start.plan == manifest.metadata.name:
                print(f"Run {history.start.run} is taken up again.", file=sys.stderr)
                return history, journal
            if clock() < history.ends:
                journal.close()
                raise usage(
                    f"Run {history.start.run} of another plan has not ended; take that up, or wait for its end."
                )
            with suppress(Failure):  # of providers that are not configured any more nothing is learnt
                await Run(history, journal, Calls(clients_of(history, clients)), clock).end(LEFT)
            if history.closed is None:
                await journal.write(Closed(at=clock(), message=LEFT))
            journal.close()
    except JournalError as error:
        raise Failure(str(error), ExitCode.FAILED) from None
    return None


async def _begun(
    manifest: PowerPlan, clients: Mapping[str, PowerClient], runs: Runs, clock: Clock, own: str, *, leave_self: bool
) -> tuple[History, Journal]:
    frozen = await frozen_now(manifest, clients, clock, own)
    if leave_self:
        frozen = frozen.without_own()
    try:
        history, journal = await runs.create(frozen.start(manifest.metadata.name, manifest.spec, clock()))
    except JournalError as error:
        raise Failure(str(error), ExitCode.FAILED) from None
    print(f"Run {history.start.run} began.", file=sys.stderr)
    return history, journal


async def _until_its_end(carried_out: Run) -> None:
    """The first Ctrl-C aborts the run, the second one leaves it as it is. That the terminal is closed ends no run."""
    work, aborting = asyncio.ensure_future(carried_out.carry_out()), list[asyncio.Task[None]]()

    def interrupted() -> None:
        if aborting:
            work.cancel()
            return
        print("Aborting: no further tier begins. Ctrl-C again leaves the run as it is.", file=sys.stderr)
        aborting.append(asyncio.ensure_future(carried_out.abort()))

    try:
        with attended({signal.SIGINT: interrupted}):
            await work
    except asyncio.CancelledError:
        message = f"Run {carried_out.history.start.run} is left as it is; what was begun goes on."
        raise Failure(message, ExitCode.INTERRUPTED, ["vmpower plan run FILE takes it up again."]) from None


def show(output: Output, history: History) -> None:
    """What a run has done."""
    if output is Output.TABLE:
        render.show_table(plans.report_tree(history))
    else:
        render.emit(output, plans.report_data(history))
