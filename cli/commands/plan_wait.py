"""`plan wait`: a plan that is carried out when its UPS says so."""

import asyncio
import signal
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from cli import plans
from cli.app import Format, command
from cli.commands.plan import group, show
from cli.errors import ExitCode, Failure, usage
from cli.files import read_as
from cli.options import Output
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
    say,
    tell,
)
from cli.ups_login import credentials
from client.power import PowerClient
from plans.calls import Calls
from plans.clock import Clock
from plans.history import History
from plans.journal import Journal, JournalError, Runs
from plans.members import LeftOut
from plans.model import PowerPlan
from plans.run import Run
from plans.ups.follow import NotLetIn, follow
from plans.ups.stage_run import OwnRun
from plans.ups.stages import Stage
from plans.ups.wait import CannotBegin, News, Waiting


@command("wait", group)
async def wait(file: File, *, own: Own = "", state_dir: StateDir = None, output: Format = Output.TABLE) -> ExitCode:
    """Follow the UPS of the plan's triggers, and carry the plan out when it says so: a service's work, without end
    until the UPS says FSD or LB. Then all is down, and the primary is told that it may go on (LOGOUT)."""
    manifest, clock, runs = read_as(PowerPlan, file, NO_PLAN), Clock(), Runs(folder(state_dir))
    nut = manifest.spec.nut
    if nut is None:
        raise usage(
            f"{file} has no nut in spec.triggers, so that there is no UPS to wait for. A schedule is followed by the"
            " controller; without one, let a timer of systemd call vmpower plan run, and another one vmpower plan up."
        )
    try:
        reading = partial(follow, nut, credentials(nut, file))
    except ValueError as error:
        number = next(number for number, each in enumerate(manifest.spec.triggers) if each.nut)
        raise usage(f"{file}: spec.triggers.{number}.nut: {error}") from None
    async with clients_of_all() as clients:
        try:
            await frozen_now(manifest, clients, clock, own)
        except Failure as failure:
            if failure.code is ExitCode.USAGE:
                raise
            say(clock(), f"The plan cannot be carried out now: {failure.message}")
        host = _Host(manifest, clients, runs, clock, own)
        waiting = Waiting(nut, manifest.spec.budget.total, host.begin, clock, host.say, begun=host.left())
        try:
            await _until_told(waiting.carry_out(reading))
        except NotLetIn as error:
            raise Failure(f"{error}. The operator sets user and password (upsd.users).", ExitCode.FAILED) from None
        except CannotBegin as error:
            raise Failure(f"Nothing was brought down. {error}", ExitCode.UNREACHABLE) from None
        finally:
            for each in waiting.runs:
                each.close()
    show(output, host.latest)
    return plans.exit_code(host.latest)


class _Host:
    """What the runs of triggers are begun with."""

    def __init__(
        self, manifest: PowerPlan, clients: Mapping[str, PowerClient], runs: Runs, clock: Clock, own: str
    ) -> None:
        self._manifest, self._clients, self._runs, self._clock, self._own = manifest, clients, runs, clock, own
        self._latest: History | None = None

    @property
    def latest(self) -> History:
        """The run that was begun, or taken up, last.

        Raises:
            LookupError: there is none.
        """
        if self._latest is None:
            raise LookupError("no run has begun")
        return self._latest

    async def begin(self, stage: Stage, why: str, left: timedelta, *, in_part: bool = False) -> OwnRun:
        """The run of a stage. Our own VM goes down with all others only.

        Raises:
            CannotBegin
        """
        spec, name = self._manifest.spec, self._manifest.metadata.name
        named = spec.nut.on_battery if spec.nut else None
        if stage is Stage.NAMED and named:
            spec = spec.only(named.tiers)
        left_out = LeftOut() if in_part else None
        try:
            frozen = await frozen_now(
                self._manifest.model_copy(update={"spec": spec}), self._clients, self._clock, self._own, left_out
            )
            if stage is Stage.NAMED or in_part:
                frozen = frozen.without_own()
            start = frozen.start(name, spec, self._clock(), trigger=why, emergency=True, left_out=str(left_out or ""))
            bounded = start.model_copy(update={"ends": min(start.ends, start.at + left)})
            history, journal = await self._runs.create(bounded)
        except Failure as failure:
            raise CannotBegin(" ".join([failure.message, *failure.hints])) from None
        except JournalError as error:
            raise CannotBegin(str(error)) from None
        self._line(f"Run {history.start.run} began.")
        if history.start.left_out:
            self._line(f"It goes on without: {history.start.left_out}")
        return self._hosted(stage, history, journal)

    def left(self) -> list[OwnRun]:
        """Runs of this plan's triggers that have not ended, and whose time is not over.

        Raises:
            Failure: another process carries one out.
        """
        found = []
        for each in readable(self._runs):
            start = each.start
            ours = start.trigger and start.plan == self._manifest.metadata.name
            if ours and each.closed is None and self._clock() < each.ends:
                history, journal = resumed(self._runs, start.run)
                whole = {tier.name for tier in start.spec.tiers} == {tier.name for tier in self._manifest.spec.tiers}
                self._line(f"Run {start.run} is taken up again.")
                found.append(self._hosted(Stage.ALL if whole else Stage.NAMED, history, journal))
        return found

    def say(self, _: News, line: str) -> None:
        """A line for people."""
        self._line(line)

    def _line(self, line: str) -> None:
        say(self._clock(), line)

    def _hosted(self, stage: Stage, history: History, journal: Journal) -> OwnRun:
        self._latest = history
        history.listeners.append(lambda event: tell(history, event))
        calls = Calls(clients_of(history, self._clients))
        return OwnRun(stage, history, journal, lambda: Run(history, journal, calls, self._clock))


async def _until_told(work: Coroutine[Any, Any, None]) -> None:
    """Until it is done, or SIGTERM or Ctrl-C says to leave: that logs out, and leaves a run as it is.

    Raises:
        Failure: it was told to leave.
    """
    task = asyncio.ensure_future(work)
    try:
        with attended(dict.fromkeys((signal.SIGINT, signal.SIGTERM), task.cancel)):
            await task
    except asyncio.CancelledError:
        raise Failure("Left; the UPS is not followed any more.", ExitCode.INTERRUPTED) from None
