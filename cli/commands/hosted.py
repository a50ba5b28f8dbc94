"""`plan list`, `start`, `watch`, `abort` and `release`: plans and runs that a controller hosts."""

import sys
from contextlib import aclosing, nullcontext
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table

from cli import plans, render
from cli.app import Format, Reason, command
from cli.commands.plan import Controller, RunName, group
from cli.errors import ExitCode, Failure
from cli.options import Output
from cli.plan_client import change, connected
from cli.plan_runs import tell
from cli.proto_text import as_dict, span
from cli.terminal import console
from client.times import moment
from client.words import short
from common.text import clean
from plans.history import History
from plans.journal import event_of, history_of
from protos.plan.v1 import plan_pb2 as pb

Run = Annotated[str, typer.Argument(metavar="RUN", help="The name of a run, or of its PowerRun.")]
Plan = Annotated[str, typer.Argument(metavar="PLAN", help="The name of a PowerPlan, or NAMESPACE/NAME.")]


@command("list", group)
async def list_plans(*, controller: Controller = "", output: Format = Output.TABLE) -> None:
    """The plans that a controller knows, and their runs, newest first."""
    async with connected(controller) as client:
        found = await client.call(pb.ListPlansRequest())
    if output is not Output.TABLE:
        render.emit(output, as_dict(found))
        return
    table = Table("PLAN", "TIERS", "TOTAL", box=None, pad_edge=False)
    for plan in found.plans:
        table.add_row(
            clean(f"{plan.namespace}/{plan.name}"), clean(" ".join(plan.tiers)), span(plan.total.ToTimedelta())
        )
    render.show_table(table)
    if found.runs:
        table = Table("RUN", "PLAN", "PHASE", "BEGAN", box=None, pad_edge=False)
        for run in found.runs:
            began = f"{moment(run.start_time).astimezone():%Y-%m-%d %H:%M:%S}"
            table.add_row(clean(run.name), clean(run.plan), short(pb.Phase, run.phase), began)
        print()
        render.show_table(table)


@command("start", group)
async def start(
    plan: Plan,
    *,
    reason: Reason = "",
    emergency: Annotated[bool, typer.Option("--emergency", help="Take over a run that is none.")] = False,
    controller: Controller = "",
) -> None:
    """Begin a run at a controller. It goes on there; `plan watch` follows it."""
    await change(controller, pb.StartRunRequest(plan=plan, reason=reason, emergency=emergency))


@command("watch", group)
async def watch(name: RunName = "", *, controller: Controller = "", output: Format = Output.TABLE) -> ExitCode:
    """Follow a run at a controller to its end: its tiers, what each has of the time, and how each VM goes down. Its
    exit code is the run's."""
    history: History | None = None
    live = _live() if output is Output.TABLE and sys.stdout.isatty() else None
    async with connected(controller) as client, aclosing(client.watch(name)) as responses:
        with live or nullcontext():
            async for response in responses:
                if history is None:
                    history = _history(response.run)
                    if live is None and output is Output.TABLE:
                        render.show_table(plans.report_tree(history))
                for line in response.events:
                    event = event_of(line)
                    history.note(event)
                    if live is None:
                        tell(history, event)
                if live is not None:
                    live.update(plans.report_tree(history), refresh=True)
    if history is None:
        raise Failure("The controller told nothing of the run.", ExitCode.UNREACHABLE)
    if output is not Output.TABLE:
        render.emit(output, plans.report_data(history))
    elif live is None:
        render.show_table(plans.report_tree(history))
    return plans.exit_code(history)


@command("abort", group)
async def abort(run: Run, *, controller: Controller = "") -> None:
    """Begin no further tier of a run at a controller; then what it stopped comes up, if its plan says so."""
    await change(controller, pb.AbortRunRequest(run=run))


@command("release", group)
async def release(run: Run, *, controller: Controller = "") -> None:
    """Give the VMs of a run that is over back to their resources: those with powerState On are started."""
    await change(controller, pb.ReleaseRunRequest(run=run))


def _history(run: pb.Run) -> History:
    try:
        return history_of(run.record)
    except ValueError:
        raise Failure("The controller is of another version, whose records cannot be read.", ExitCode.FAILED) from None


def _live() -> Live:
    return Live(console=console(sys.stdout), auto_refresh=False)
