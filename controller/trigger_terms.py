"""What the triggers of plans and the host of their runs say to one another, and to people."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import structlog

from common.backoff import Backoff
from controller.hosted_runs import HostedRuns
from controller.plan_terms import Asked, RunRefused
from controller.source import Event, Key, Source
from plans.history import History

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a run is brought back that could not be yet."""
UNKNOWN = 120.0
"""Seconds for which nothing comes up by itself while no UPS has been read: we may have started in an outage."""

log = structlog.get_logger()


class Host(Protocol):
    """What carries runs out."""

    @property
    def runs(self) -> HostedRuns:
        """Those that are not released."""

    def source(self) -> Source | None:
        """Where plans are declared."""

    async def start(self, asked: Asked) -> History:
        """Begin a run, or raise RunRefused, SourceError or ResourceGone."""

    async def is_undone(self, history: History) -> bool:
        """Whether a VM of a run that is over runs, as far as its provider tells, or is being started."""

    async def bring_back(self, name: str) -> None:
        """Abort a run, if it is under way, bring up what it has stopped, and release it, unless another run takes it
        over meanwhile, or its plan has Stop and a VM was not ready; or raise RunRefused."""


async def bring_back(host: Host, run: str) -> None:
    """Have a run brought back, as soon as the host can."""
    pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
    while True:
        try:
            await host.bring_back(run)
        except RunRefused as error:
            log.warning("a run cannot be brought back yet", run=run, error=str(error))
            await asyncio.sleep(pauses.next())
        else:
            return


def listed(titles: Sequence[str]) -> str:
    """The first of some VMs, and how many more there are."""
    more = f" and {len(titles) - 3} more" if len(titles) > 3 else ""
    return f"{', '.join(titles[:3])}{more}"


def in_words(refused: RunRefused) -> str:
    """Why a run does not begin, with the fields that are to blame."""
    wrong = (f"{each.field}: {each.message}" for each in refused.violations)
    return " ".join([refused.message, *wrong])


class Power:
    """What is known of the power of a plan's site, by its UPSes."""

    def __init__(self) -> None:
        self._is_there: bool | None = None
        self._changed = asyncio.Event()

    @property
    def is_there(self) -> bool | None:
        """None: nobody can tell."""
        return self._is_there

    def tell(self, is_there: bool | None) -> None:
        """It is there, or has failed; None: that is not known any more."""
        self._is_there = is_there
        self._changed.set()

    async def back(self) -> None:
        """Return when it is there; where nobody can tell, after a while."""
        while not self._is_there:
            self._changed.clear()
            try:
                async with asyncio.timeout(UNKNOWN if self._is_there is None else None):
                    await self._changed.wait()
            except TimeoutError:
                return


class Teller:
    """Tells Events of a plan, in their order."""

    def __init__(self, source: Callable[[], Source | None], plan: Key) -> None:
        self._source, self._plan = source, plan
        self._telling: set[asyncio.Task[None]] = set()

    def tell(self, level: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Have people shown it."""
        task = asyncio.create_task(self._emit(Event(level, reason, message)))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _emit(self, event: Event) -> None:
        source = self._source()
        if source is None or source.shared:  # Events of a cluster may come to nobody in an outage
            log.info(event.message, resource=str(self._plan), reason=event.reason)
        if source is not None:
            await source.emit_event(self._plan, event)
