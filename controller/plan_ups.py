"""The UPS of a plan, followed by the controller from one outage to the next: runs begin and end as it says."""

import asyncio
from collections.abc import Callable, Collection
from datetime import timedelta
from functools import partial
from typing import Literal

from common.backoff import Backoff
from controller.hosted_run import Hosted, targets
from controller.last_known import LastKnown
from controller.plan_terms import Asked, RunRefused
from controller.source import Key, ResourceGone, SecretUnavailable, Source, SourceError
from controller.trigger_terms import Host, Power, Teller, bring_back, in_words, listed
from plans.clock import Clock
from plans.model import Nut, PlanSpec
from plans.ups.client import Credentials, Login, UpsError
from plans.ups.follow import NotLetIn, Seen, follow
from plans.ups.stages import Stage
from plans.ups.wait import CannotBegin, News, Waiting

AGAIN, LONGEST_PAUSE = 60.0, 300.0
"""Seconds before a UPS is followed again that said FSD, or did not let us in. A primary that waits for its secondaries
must see us go, and counts them each few seconds."""
WARNINGS = frozenset({News.LOST, News.FAILED, News.NOT_BEGUN, News.IN_PART})
ONLY_FILES = (
    "spec.triggers.nut has user and passwordFile, which vmpower plan wait reads: the controller opens no file that a "
    "plan names. Write secretRef, a Secret of type vmpower/nut beside the plan."
)


class UpsTrigger:
    """`clock` makes the one of an outage; `power` is told what the UPSes say of it."""

    def __init__(
        self, plan: Key, spec: PlanSpec, nut: Nut, host: Host, clock: Callable[[], Clock], *, power: Power
    ) -> None:
        self._plan, self._spec, self._nut, self._host, self._clock = plan, spec, nut, host, clock
        self._power = power
        self._teller = Teller(host.source, plan)
        self._told: dict[News, str] = {}
        self._refused: dict[str, str] = {}
        """By the names of the UPSes that do not let us in, why."""
        self._final = ""
        """The run after which no other one begins while a UPS is about to cut the power."""

    async def follow(self) -> None:
        """For ever, or not at all where the plan's login is not for us. After FSD the UPS is about to go; should it be
        there still, it is followed again: power that is back brings up then what was stopped."""
        if self._nut.secret_ref is None:
            self._teller.tell("Warning", "TriggersNotFollowed", ONLY_FILES)
            self._power.tell(True)  # as for a plan that names no UPS
            return
        login = SecretLogin(self._host.source, self._plan.namespace, self._nut.secret_ref.name)
        pauses = Backoff(AGAIN, LONGEST_PAUSE)
        while True:
            try:
                await self._until_all_is_down(login.read)
                self._say(News.DOWN, self._down())
                pauses.reset()
            except CannotBegin as error:
                self._say(News.NOT_BEGUN, f"No run of all could begin, and the primary may go on. {error}")
            await asyncio.sleep(pauses.next())

    async def _until_all_is_down(self, login: Credentials) -> None:
        """
        Raises:
            CannotBegin
        """
        runs = self._host.runs.triggered(self._plan)
        left = [each for each in runs if each.history.start.emergency and not each.history.bring_up_stopped]
        begun = [HostedRun(self._host, hosted, self._stage(hosted)) for hosted in left]
        if begun:
            self._power.tell(False)
        total = self._spec.budget.total
        waiting = Waiting(self._nut, total, self._begin, self._clock(), self._say, begun=begun, final=self._final)
        try:
            await waiting.carry_out(partial(self._follow_one, waiting, login))
        finally:
            self._final = waiting.final
            for run in waiting.runs:
                run.close()

    def _down(self) -> str:
        """What the last run has come to."""
        last = self._host.runs.triggered(self._plan)[-1:]
        runs_on = [target.title for each in last for target in targets(each.history) if not each.history.is_off(target)]
        if not runs_on:
            return "All is down, and the primary may go on."
        return f"The primary may go on. Not known to be down: {listed(runs_on)}."

    async def _follow_one(self, waiting: Waiting, login: Credentials, ups: str, seen: Callable[[Seen], None]) -> None:
        """For ever. Who does not let us in keeps us from no other UPS, and is asked again."""

        def told(now: Seen) -> None:
            seen(now)
            if now.reading is not None:
                self._refused.pop(ups, None)
            if waiting.power is not None or self._power.is_there:
                self._power.tell(waiting.power)
            if waiting.power:
                self._told.clear()

        pauses = Backoff(AGAIN, LONGEST_PAUSE)
        while True:
            try:
                await follow(self._nut, login, ups, told)
            except NotLetIn as error:
                if self._refused.get(ups) != str(error):
                    self._refused[ups] = str(error)
                    who_acts = "The operator sets the user and its password (upsd.users)."
                    self._teller.tell("Warning", News.NOT_LET_IN, f"{error}. {who_acts}")
            await asyncio.sleep(pauses.next())

    def _say(self, news: News, line: str) -> None:
        """Once, as long as it is so: the UPS is followed again and again."""
        if self._told.get(news) == line:
            return
        if news is News.BACK:
            self._told.clear()
        self._told[news] = line
        level: Literal["Normal", "Warning"] = "Warning" if news in WARNINGS else "Normal"
        self._teller.tell(level, news, line)

    async def _begin(self, stage: Stage, why: str, left: timedelta, *, in_part: bool = False) -> "HostedRun":
        named = self._nut.on_battery
        tiers = named.tiers if named and stage is Stage.NAMED else ()
        asked = Asked(self._plan, emergency=True, tiers=tiers, trigger=why, left=left, in_part=in_part)
        try:
            start = (await self._host.start(asked)).start
        except RunRefused as error:
            raise CannotBegin(in_words(error)) from None
        except (SourceError, ResourceGone) as error:
            raise CannotBegin(str(error)) from None
        (hosted,) = (each for each in self._host.runs.triggered(self._plan) if each.history.start.run == start.run)
        if in_part:
            self._say(News.IN_PART, f"Run {start.run} goes on without: {start.left_out}")
        return HostedRun(self._host, hosted, stage)

    def _stage(self, hosted: Hosted) -> Stage:
        """The one that a run was begun for."""
        whole = {tier.name for tier in hosted.history.start.spec.tiers} >= {tier.name for tier in self._spec.tiers}
        return Stage.ALL if whole else Stage.NAMED


class SecretLogin:
    """The login in a Secret, read for each session anew. The one that was read last counts while the API server does
    not answer: it may be what the outage took first."""

    def __init__(self, source: Callable[[], Source | None], namespace: str, name: str) -> None:
        self._source, self._namespace, self._name = source, namespace, name
        self._known = LastKnown[Login](f"Secret {namespace}/{name}")

    async def read(self) -> Login:
        """
        Raises:
            UpsError
        """
        try:
            return await self._known.read(self._read_now)
        except (SecretUnavailable, SourceError) as error:
            raise UpsError(str(error)) from None

    async def _read_now(self) -> Login:
        source = self._source()
        if source is None:
            raise SourceError("What is declared is not known yet.")
        secret = await source.ups_secret(self._namespace, self._name)
        return Login(secret.username, secret.password, secret.ca)


class HostedRun:
    """The run of a stage that a host carries out, whoever asks for that."""

    def __init__(self, host: Host, hosted: Hosted, stage: Stage) -> None:
        self._host, self._hosted, self._stage = host, hosted, stage
        self._over: Callable[[], None] | None = None

    @property
    def stage(self) -> Stage:
        """The one that it was begun for."""
        return self._stage

    @property
    def name(self) -> str:
        """The run's."""
        return self._hosted.history.start.run

    @property
    def in_part(self) -> bool:
        """Whether it left something out of its stage."""
        return bool(self._hosted.history.start.left_out)

    @property
    def under_way(self) -> bool:
        """Whether it brings its VMs down now, or is about to be taken up for that."""
        goes_up = self._hosted.history.bring_up_began is not None
        return self._hosted.is_open and not goes_up and (self._hosted.task is None or not self._hosted.task.done())

    def carry_out(self, earlier: Collection[str], over: Callable[[], None]) -> None:
        """The host does; `over` is called when it has ended."""
        self._over = over
        self._hosted.on_pause.append(over)

    async def ended(self) -> None:
        """Wait until it is not carried out any more."""
        over = asyncio.Event()
        self._hosted.on_pause.append(over.set)
        if self.under_way:
            await over.wait()
        self._hosted.on_pause.remove(over.set)

    async def shorten(self, left: timedelta, why: str) -> None:
        """It has to be over after so long, if that is sooner than it is now."""
        if self._hosted.run is not None:
            await self._hosted.run.shorten(left, why)

    async def let_go(self) -> None:
        """The host goes on with it, or has another run take it over."""
        self.close()

    async def is_undone(self) -> bool:
        """Whether a VM of it runs, or is being started, now that all of it was to be down."""
        return await self._host.is_undone(self._hosted.history)

    async def bring_back(self) -> None:
        """Abort it, if it is under way, bring up what it has stopped, and release it."""
        await bring_back(self._host, self.name)

    async def give_way(self, run: str) -> None:
        """The host has closed it when the other one began."""

    def close(self) -> None:
        """Nothing more is done about it here."""
        if self._over is not None:
            self._hosted.on_pause.remove(self._over)
            self._over = None
