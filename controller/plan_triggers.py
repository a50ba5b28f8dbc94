"""The triggers of plans: each UPS is followed for as long as this controller leads, and runs begin as it says.

They are runs like any other, of which this controller's host is told: it carries them out, holds their VMs, and goes on
with them after a restart. What is told to people are Events of the plan.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from functools import partial
from typing import Literal, Protocol

import structlog

from common.backoff import Backoff
from controller.hosted_run import Hosted
from controller.models import PowerPlan
from controller.plan_terms import Asked, RunRefused
from controller.source import Event, Key, ResourceGone, SecretUnavailable, Source, SourceError
from plans.clock import Clock
from plans.history import History
from plans.model import Nut, PlanSpec
from plans.ups.client import Credentials, Login, UpsError
from plans.ups.follow import NotLetIn, follow
from plans.ups.stages import Stage
from plans.ups.wait import CannotBegin, News, Waiting

AGAIN, LONGEST_PAUSE = 60.0, 300.0
"""Seconds before a UPS is followed again that said FSD, or did not let us in. A primary that waits for its secondaries
must see us go, and counts them each few seconds."""
FIRST_PAUSE, LATER_PAUSE = 1.0, 30.0
"""Seconds before a run is brought back that could not be yet."""
WARNINGS = frozenset({News.LOST, News.FAILED, News.NOT_BEGUN, News.NOT_LET_IN})
ONLY_FILES = (
    "spec.triggers.nut has user and passwordFile, which vmpower plan wait reads: the controller opens no file that a "
    "plan names. Write secretRef, a Secret of type vmpower/nut beside the plan."
)

log = structlog.get_logger()


class Host(Protocol):
    """What carries runs out."""

    def source(self) -> Source | None:
        """Where plans are declared."""

    def triggered(self, plan: Key) -> list[Hosted]:
        """The runs of a plan that its triggers have begun and that are not released, oldest first."""

    async def start(self, asked: Asked) -> History:
        """Begin a run, or raise RunRefused, SourceError or ResourceGone."""

    async def bring_back(self, name: str) -> None:
        """Abort a run, and bring up what it has stopped, or raise RunRefused."""


class Triggers:
    """Those of all plans. `clock` makes the one of a plan that is followed."""

    def __init__(self, host: Host, clock: Callable[[], Clock]) -> None:
        self._host, self._clock = host, clock
        self._followed: dict[Key, tuple[PlanSpec, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def follow(self, plans: Mapping[Key, PowerPlan]) -> None:
        """Follow the triggers of these plans, and of no other. A plan that has changed is followed anew; its runs go
        on as they began."""
        for key, (spec, task) in list(self._followed.items()):
            if key not in plans or plans[key].spec != spec:
                del self._followed[key]
                self._end(task)
        for key, plan in plans.items():
            if plan.spec.nut and key not in self._followed:
                self._followed[key] = (plan.spec, asyncio.create_task(self._guarded(key, plan.spec, plan.spec.nut)))

    async def close(self) -> None:
        """Follow none any more: log out everywhere."""
        for _, task in self._followed.values():
            self._end(task)
        self._followed.clear()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _end(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _guarded(self, key: Key, spec: PlanSpec, nut: Nut) -> None:
        try:
            await self._follow_ups(key, spec, nut)
        except Exception:
            log.exception("a bug in vmpower: the triggers of a plan are not followed", plan=str(key))

    async def _follow_ups(self, key: Key, spec: PlanSpec, nut: Nut) -> None:
        """From one outage to the next. After FSD the UPS is about to go; should it be there still, it is followed
        again: power that is back brings up then what was stopped."""
        plan = _Plan(key, spec, nut, self._host, self._clock())
        if nut.secret_ref is None:
            await plan.tell(Event("Warning", "TriggersNotFollowed", ONLY_FILES))
            return
        login, pauses = _Login(self._host.source, key.namespace, nut.secret_ref.name), Backoff(AGAIN, LONGEST_PAUSE)
        while True:
            try:
                await plan.follow(login.read)
                plan.say(News.DOWN, "All is down, and the primary may go on.")
                pauses.reset()
            except NotLetIn as error:
                plan.say(News.NOT_LET_IN, f"{error}. The operator sets the user and its password (upsd.users).")
            except CannotBegin as error:
                plan.say(News.NOT_BEGUN, f"Nothing was brought down. {error}")
            await asyncio.sleep(pauses.next())


class _Login:
    """The login in a Secret, read for each session anew. The one that was read last counts while the API server does
    not answer: it may be what the outage took first."""

    def __init__(self, source: Callable[[], Source | None], namespace: str, name: str) -> None:
        self._source, self._namespace, self._name = source, namespace, name
        self._known: Login | None = None

    async def read(self) -> Login:
        """
        Raises:
            UpsError
        """
        source = self._source()
        if source is None:
            raise UpsError("What is declared is not known yet.")
        try:
            secret = await source.ups_secret(self._namespace, self._name)
        except SecretUnavailable as error:
            raise UpsError(str(error)) from None
        except SourceError as error:
            if self._known is None:
                raise UpsError(str(error)) from None
            return self._known
        self._known = Login(secret.username, secret.password, secret.ca)
        return self._known


class _Plan:
    """A plan whose UPSes are followed."""

    def __init__(self, key: Key, spec: PlanSpec, nut: Nut, host: Host, clock: Clock) -> None:
        self._key, self._spec, self._nut, self._host, self._clock = key, spec, nut, host, clock
        self._told: dict[News, str] = {}
        self._telling: set[asyncio.Task[None]] = set()

    async def follow(self, login: Credentials) -> None:
        """Until all is down, and power that comes back would not change that.

        Raises:
            NotLetIn
            CannotBegin
        """
        left = [hosted for hosted in self._host.triggered(self._key) if hosted.history.start.emergency]
        begun = [HostedRun(self._host, hosted, self._stage(hosted)) for hosted in left]
        total = self._spec.budget.total
        waiting = Waiting(self._nut, total, self._begin, self._clock, self.say, begun=begun)
        try:
            await waiting.carry_out(partial(follow, self._nut, login))
        finally:
            for run in waiting.runs:
                run.close()

    def say(self, news: News, line: str) -> None:
        """Have it told as an Event; once, as long as it is so: the UPS is followed again and again."""
        if self._told.get(news) == line:
            return
        if news is News.BACK:
            self._told.clear()
        self._told[news] = line
        level: Literal["Normal", "Warning"] = "Warning" if news in WARNINGS else "Normal"
        task = asyncio.create_task(self.tell(Event(level, news, line)))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def tell(self, event: Event) -> None:
        """Show people an Event of the plan."""
        source = self._host.source()
        if source is None or source.shared:  # Events of a cluster may come to nobody in an outage
            log.info(event.message, resource=str(self._key), reason=event.reason)
        if source is not None:
            await source.emit_event(self._key, event)

    async def _begin(self, stage: Stage, why: str, left: timedelta) -> "HostedRun":
        named = self._nut.on_battery
        tiers = named.tiers if named and stage is Stage.NAMED else ()
        asked = Asked(self._key, emergency=True, tiers=tiers, trigger=why, left=left)
        try:
            run = (await self._host.start(asked)).start.run
        except RunRefused as error:
            wrong = (f"{each.path}: {each.message}" for each in error.violations)
            raise CannotBegin(" ".join([error.message, *wrong])) from None
        except (SourceError, ResourceGone) as error:
            raise CannotBegin(str(error)) from None
        (hosted,) = (each for each in self._host.triggered(self._key) if each.history.start.run == run)
        return HostedRun(self._host, hosted, stage)

    def _stage(self, hosted: Hosted) -> Stage:
        """The one that a run was begun for."""
        whole = {tier.name for tier in hosted.history.start.spec.tiers} >= {tier.name for tier in self._spec.tiers}
        return Stage.ALL if whole else Stage.NAMED


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
    def under_way(self) -> bool:
        """Whether it is carried out now, or is about to be taken up."""
        return self._hosted.is_open and (self._hosted.task is None or not self._hosted.task.done())

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

    async def bring_back(self) -> None:
        """Abort it, if it is under way, bring up what it has stopped, and release it."""
        pauses = Backoff(FIRST_PAUSE, LATER_PAUSE)
        while True:
            try:
                await self._host.bring_back(self.name)
            except RunRefused as error:
                log.warning("a run cannot be brought back yet", run=self.name, error=str(error))
                await asyncio.sleep(pauses.next())
            else:
                return

    async def give_way(self, run: str) -> None:
        """The host has closed it when the other one began."""

    def close(self) -> None:
        """Nothing more is done about it here."""
        if self._over is not None:
            self._hosted.on_pause.remove(self._over)
            self._over = None
