"""Following vCenter: the call that waits, again and again, for as long as somebody listens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from providers.core.errors import HypervisorError
from providers.vsphere import collector
from providers.vsphere.collector import News
from providers.vsphere.properties import Update
from providers.vsphere.session import CLOSE_SECONDS, Link, Session, SessionLost


class Feed:
    """What is new, from one property collector. The next call waits already while the last one's news is worked on."""

    def __init__(self, session: Session, link: Link, number: str) -> None:
        self._session, self._link, self._number = session, link, number
        self._poll = self._wait("")
        self._lost = asyncio.create_task(link.lost.wait())

    async def next(self) -> list[Update]:
        """Everything there is, and after that all that changed since; waits until there is something.

        Raises:
            SessionLost: vCenter does not follow for us any more.
            HypervisorUnavailable
        """
        updates = list[Update]()
        more = True
        while more or not updates:
            news = await self._news()
            more = news.more
            updates += news.updates
        return updates

    async def close(self) -> None:
        """Wait no longer."""
        self._poll.cancel()
        self._lost.cancel()
        await asyncio.gather(self._poll, self._lost, return_exceptions=True)

    async def _news(self) -> News:
        await asyncio.wait({self._poll, self._lost}, return_when=asyncio.FIRST_COMPLETED)
        if not self._poll.done():
            raise SessionLost("Another session with vCenter has begun; all is read again.")
        news = self._poll.result()
        self._poll = self._wait(news.version)
        return news

    def _wait(self, version: str) -> asyncio.Task[News]:
        return asyncio.create_task(self._session.stream(self._link, collector.wait, self._number, version))


@asynccontextmanager
async def following(session: Session, link: Link, scope: str) -> AsyncIterator[Feed]:
    """A feed of all that is in scope.

    Raises:
        HypervisorUnavailable
    """
    number = await session.stream(link, collector.follow, scope)
    feed = Feed(session, link, number)
    try:
        yield feed
    finally:
        await feed.close()
        if not link.lost.is_set():
            with suppress(HypervisorError, TimeoutError):
                leaving = session.stream(link, collector.leave, number)
                await asyncio.wait_for(leaving, CLOSE_SECONDS)
