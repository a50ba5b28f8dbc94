"""Following vCenter: the call that waits, again and again, for as long as somebody listens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from providers.blocking import Lane
from providers.errors import HypervisorError
from providers.vsphere import collector
from providers.vsphere.collector import News
from providers.vsphere.properties import Update
from providers.vsphere.session import CLOSE_SECONDS, Link, Session, SessionLost


class Feed:
    """What is new, from one property collector."""

    def __init__(self, session: Session, link: Link, lane: Lane, number: str) -> None:
        self._session, self._link, self._lane, self._number = session, link, lane, number
        self._version = ""

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
            self._version, more = news.version, news.more
            updates += news.updates
        return updates

    async def _news(self) -> News:
        poll = asyncio.create_task(
            self._session.run(self._link, self._lane, collector.wait, self._number, self._version)
        )
        lost = asyncio.create_task(self._link.lost.wait())
        try:
            await asyncio.wait({poll, lost}, return_when=asyncio.FIRST_COMPLETED)
            if poll.done():
                return poll.result()
            raise SessionLost("Another session with vCenter has begun; all is read again.")
        finally:
            poll.cancel()
            lost.cancel()


@asynccontextmanager
async def following(session: Session, link: Link, scope: str) -> AsyncIterator[Feed]:
    """A feed of all that is in scope.

    Raises:
        HypervisorUnavailable
    """
    number = await session.run(link, Lane("vsphere-follow", 1), collector.follow, scope)
    try:
        yield Feed(session, link, Lane("vsphere-news", 1), number)
    finally:
        if not link.lost.is_set():
            with suppress(HypervisorError, TimeoutError):
                leaving = session.run(link, Lane("vsphere-leave", 1), collector.leave, number)
                await asyncio.wait_for(leaving, CLOSE_SECONDS)
