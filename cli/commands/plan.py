"""`plan`: one ordered shutdown over several providers inside one time: what it would do, doing it, and what it did."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from cli import config, plans, render
from cli.app import Format, app, command
from cli.errors import ExitCode, Failure, translate, usage
from cli.files import read_as
from cli.options import Output
from cli.plan_client import change
from client.power import PowerClient
from common.own_machine import system_uuid
from common.settings import state_home
from common.text import clean
from plans.calls import Calls
from plans.clock import Clock
from plans.freeze import Frozen, Unreachable, freeze
from plans.history import Closed, Event, History
from plans.journal import Journal, JournalError, Runs
from plans.members import OwnVMUnclear, PlanRefused
from plans.model import Nut, PowerPlan, UpsTls
from plans.run import Run
from plans.ups.client import Login
from plans.ups.follow import NotLetIn, follow
from plans.ups.stages import Stage
from plans.ups.wait import Begun, CannotBegin, Waiting
from protos.plan.v1.plan_pb2 import BringUpRequest

group = typer.Typer(
    help="One ordered shutdown over all providers of the configuration, inside one time.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(group, name="plan")

NO_PLAN = "is no PowerPlan"
File = Annotated[Path, typer.Argument(metavar="FILE", help="A PowerPlan, in YAML.")]
Own = Annotated[
    str,
    typer.Option(
        "--self",
        metavar="UUID|PROVIDER/VM",
        help="The VM that this command runs on: it goes down after all others; default: by this machine's UUID.",
    ),
]
StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        envvar="VMPOWER_STATE_DIR",
        help="Where the records of runs are; default: ~/.local/state/vmpower/plans.",
    ),
]
Controller = Annotated[
    str,
    typer.Option(
        "--controller",
        metavar="ADDRESS",
        envvar="VMPOWER_CONTROLLER",
        help="gRPC address of a controller (unix:///path, host:port); else the one in the configuration.",
    ),
]
RunName = Annotated[str, typer.Argument(metavar="[RUN]", help="The name of a run; default: the latest.")]


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
    async with _clients() as clients:
        frozen = await _freeze(manifest, clients, clock, own)
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
    manifest, clock, runs = read_as(PowerPlan, file, NO_PLAN), Clock(), Runs(_folder(state_dir))
    async with _clients() as clients:
        history, journal = await _taken_up(manifest, runs, clock) or await _begun(
            manifest, clients, runs, clock, own, leave_self=leave_self
        )
        try:
            history.listeners.append(lambda event: tell(history, event))
            await _until_its_end(Run(history, journal, Calls(_known(history, clients)), clock))
        finally:
            journal.close()
    _show(output, history)
    return plans.exit_code(history)


@command("wait", group)
async def wait(file: File, *, own: Own = "", state_dir: StateDir = None, output: Format = Output.TABLE) -> ExitCode:
    """Follow the UPS of the plan's triggers, and carry the plan out when it says so: a service's work, without end
    until the UPS says FSD or LB. Then all is down, and the primary is told that it may go on (LOGOUT)."""
    manifest, clock, runs = read_as(PowerPlan, file, NO_PLAN), Clock(), Runs(_folder(state_dir))
    if not manifest.spec.triggers:
        raise usage(f"{file} has no spec.triggers, so that there is nothing to wait for.")
    nut = manifest.spec.triggers[0].nut
    reading = partial(follow, nut, _login(nut, file))
    async with _clients() as clients:
        try:
            await _freeze(manifest, clients, clock, own)
        except Failure as failure:
            if failure.code is ExitCode.USAGE:
                raise
            _say(clock(), f"The plan cannot be carried out now: {failure.message}")
        host = _Host(manifest, clients, runs, clock, own)
        waiting = Waiting(manifest.spec, host.begin, clock, host.say, host.left())
        try:
            await _until_told(waiting.carry_out(reading))
        except NotLetIn as error:
            raise Failure(f"{error}. The operator sets user and password (upsd.users).", ExitCode.FAILED) from None
        except CannotBegin as error:
            raise Failure(f"Nothing was brought down. {error}", ExitCode.UNREACHABLE) from None
        finally:
            for begun in waiting.runs:
                begun.journal.close()
    _show(output, waiting.runs[-1].history)
    return plans.exit_code(waiting.runs[-1].history)


def _login(nut: Nut, file: Path) -> Login:
    """Paths of a plan are relative to its file."""
    folder = file.absolute().parent
    tls = nut.tls and UpsTls(ca=str(folder / Path(nut.tls.ca).expanduser()))
    return Login(nut.user, folder / Path(nut.password_file).expanduser(), tls)


class _Host:
    """What the runs of triggers are begun with."""

    def __init__(
        self, manifest: PowerPlan, clients: Mapping[str, PowerClient], runs: Runs, clock: Clock, own: str
    ) -> None:
        self._manifest, self._clients, self._runs, self._clock, self._own = manifest, clients, runs, clock, own

    async def begin(self, stage: Stage, why: str, until: datetime) -> Begun:
        """The run of a stage. Our own VM goes down with all others only.

        Raises:
            CannotBegin
        """
        spec, name = self._manifest.spec, self._manifest.metadata.name
        named = spec.triggers[0].nut.on_battery
        if stage is Stage.NAMED and named:
            spec = spec.only(named.tiers)
        try:
            frozen = await _freeze(
                self._manifest.model_copy(update={"spec": spec}), self._clients, self._clock, self._own
            )
            if stage is Stage.NAMED:
                frozen = frozen.without_own()
            start = frozen.start(name, spec, self._clock(), trigger=why, emergency=True)
            bounded = start.model_copy(update={"ends": min(start.ends, until)})
            history, journal = await self._runs.create(bounded)
        except Failure as failure:
            raise CannotBegin(" ".join([failure.message, *failure.hints])) from None
        except JournalError as error:
            raise CannotBegin(str(error)) from None
        self.say(f"Run {history.start.run} began.")
        return self._hosted(stage, history, journal)

    def left(self) -> list[Begun]:
        """Runs of this plan's triggers that have not ended, and whose time is not over.

        Raises:
            Failure: another process carries one out.
        """
        found = []
        for each in self._runs.all():
            start = each.start
            ours = start.trigger and start.plan == self._manifest.metadata.name
            if ours and each.closed is None and self._clock() < start.ends:
                history, journal = _resumed(self._runs, start.run)
                whole = {tier.name for tier in start.spec.tiers} == {tier.name for tier in self._manifest.spec.tiers}
                self.say(f"Run {start.run} is taken up again.")
                found.append(self._hosted(Stage.ALL if whole else Stage.NAMED, history, journal))
        return found

    def say(self, line: str) -> None:
        """A line for people."""
        _say(self._clock(), line)

    def _hosted(self, stage: Stage, history: History, journal: Journal) -> Begun:
        history.listeners.append(lambda event: tell(history, event))
        calls = Calls(_known(history, self._clients))
        return Begun(stage, history, journal, lambda: Run(history, journal, calls, self._clock))


async def _until_told(work: Coroutine[Any, Any, None]) -> None:
    """Until it is done, or SIGTERM or Ctrl-C says to leave: that logs out, and leaves a run as it is.

    Raises:
        Failure: it was told to leave.
    """
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        raise Failure("Left; the UPS is not followed any more.", ExitCode.INTERRUPTED) from None
    finally:
        for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
        structlog.reset_defaults()


@command("report", group)
async def report(name: RunName = "", *, state_dir: StateDir = None, output: Format = Output.TABLE) -> ExitCode:
    """What a run has done: when each tier began and ended, and how each VM went down. Its exit code is the run's."""
    history = _found(name, Runs(_folder(state_dir)), state_dir)
    _show(output, history)
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
    runs = Runs(_folder(state_dir))
    history, journal = _resumed(runs, _found(name, runs, state_dir).start.run)
    try:
        if history.start.spec.bring_up is None:
            raise usage(f"The plan of {history.start.run} has no bringUp, so that nothing is started.")
        if history.closed is None:
            raise usage(f"Run {history.start.run} has not ended: vmpower plan run FILE takes it up again.")
        history.listeners.append(lambda event: tell(history, event))
        async with _clients() as clients:
            await Run(history, journal, Calls(_known(history, clients)), Clock()).bring_up()
    finally:
        journal.close()
    _show(output, history)
    return ExitCode.WANTED if all(each.ready for each in history.up.values()) else ExitCode.FAILED


def _found(name: str, runs: Runs, state_dir: Path | None) -> History:
    """The run of this name, or the latest.

    Raises:
        Failure: there is none.
    """
    try:
        history = runs.read(name) if name else next(reversed(runs.all()), None)
    except JournalError as error:
        raise usage(str(error)) from None
    if history is None:
        raise usage(f"There is no run in {_folder(state_dir)}.")
    return history


def _resumed(runs: Runs, name: str) -> tuple[History, Journal]:
    try:
        return runs.resume(name)
    except JournalError as error:
        raise Failure(str(error), ExitCode.FAILED) from None


async def _taken_up(manifest: PowerPlan, runs: Runs, clock: Clock) -> tuple[History, Journal] | None:
    """The run of this plan that was left, if there is time for it still. One that was left longer ago is closed.

    Raises:
        Failure: a run of another plan is under way, or another process carries it out.
    """
    try:
        for left in [history for history in runs.all() if history.closed is None]:
            history, journal = _resumed(runs, left.start.run)
            if clock() < history.start.ends and history.start.plan == manifest.metadata.name:
                print(f"Run {history.start.run} is taken up again.", file=sys.stderr)
                return history, journal
            if clock() < history.start.ends:
                journal.close()
                raise usage(
                    f"Run {history.start.run} of another plan has not ended; take that up, or wait for its end."
                )
            await journal.write(Closed(at=clock(), message="No process carried it out to its end."))
            journal.close()
    except JournalError as error:
        raise Failure(str(error), ExitCode.FAILED) from None
    return None


async def _begun(
    manifest: PowerPlan, clients: Mapping[str, PowerClient], runs: Runs, clock: Clock, own: str, *, leave_self: bool
) -> tuple[History, Journal]:
    frozen = await _freeze(manifest, clients, clock, own)
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
    loop, work = asyncio.get_running_loop(), asyncio.ensure_future(carried_out.carry_out())
    aborting: list[asyncio.Task[None]] = []

    def interrupted() -> None:
        if aborting:
            work.cancel()
            return
        print("Aborting: no further tier begins. Ctrl-C again leaves the run as it is.", file=sys.stderr)
        aborting.append(asyncio.ensure_future(carried_out.abort()))

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        await work
    except asyncio.CancelledError:
        message = f"Run {carried_out.history.start.run} is left as it is; what was begun goes on."
        raise Failure(message, ExitCode.INTERRUPTED, ["vmpower plan run FILE takes it up again."]) from None
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGHUP)
        structlog.reset_defaults()


async def _freeze(manifest: PowerPlan, clients: Mapping[str, PowerClient], clock: Clock, own: str) -> Frozen:
    try:
        return await freeze(manifest.spec, clients, clock, own=own or system_uuid())
    except Unreachable as error:
        raise translate(error.error, clients[error.provider].address) from None
    except OwnVMUnclear as error:
        raise usage(f"--self: {error}") from None
    except PlanRefused as error:
        lines = [f"{each.path}: {each.message}" for each in error.violations]
        raise usage("The plan is refused; nothing was done.", *lines) from None


@asynccontextmanager
async def _clients() -> AsyncIterator[Mapping[str, PowerClient]]:
    """All providers of the configuration, by their names."""
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(PowerClient(endpoint.address, config.tls_files(endpoint)))
            for name, endpoint in config.load().meant("").items()
        }


def _known(history: History, clients: Mapping[str, PowerClient]) -> Mapping[str, PowerClient]:
    """The providers of a run.

    Raises:
        Failure: the configuration has lost one since the run began.
    """
    needed = {target.provider for tier in history.start.tiers for target in tier.targets}
    if missing := sorted(needed - clients.keys()):
        raise usage(f"The run needs {', '.join(missing)}, which {config.path()} does not name any more.")
    return clients


def _folder(state_dir: Path | None) -> Path:
    return (state_dir or state_home() / "plans").expanduser()


def _say(at: datetime, line: str) -> None:
    with suppress(OSError):
        print(clean(f"{at.astimezone():%H:%M:%S} {line}"), file=sys.stderr, flush=True)


def tell(history: History, event: Event) -> None:
    """Print what has happened, on stderr."""
    with suppress(OSError):  # the terminal is gone; the run goes on
        print(clean(f"{event.at.astimezone():%H:%M:%S} {plans.line(history, event)}"), file=sys.stderr, flush=True)


def _show(output: Output, history: History) -> None:
    if output is Output.TABLE:
        render.show_table(plans.report_tree(history))
    else:
        render.emit(output, plans.report_data(history))
