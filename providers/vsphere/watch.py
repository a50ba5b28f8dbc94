"""Following vCenter: WaitForUpdatesEx again and again, for as long as the watch is read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from providers.core.errors import HypervisorError
from providers.vsphere import collector
from providers.vsphere.collector import Updates
from providers.vsphere.properties import Update
from providers.vsphere.session import CLOSE_SECONDS, Link, Session, SessionLost


class Feed:
    """Updates from one property collector. The next call waits already while the last one's updates are worked on."""

    def __init__(self, session: Session, link: Link, collector_id: str) -> None:
        self._session, self._link, self._collector_id = session, link, collector_id
        self._poll = self._wait("")
        self._lost = asyncio.create_task(link.lost.wait())

    async def next(self) -> list[Update]:
        """At first all objects, and after that what has changed since: waits until something has, or until vCenter
        says that nothing did.

        Raises:
            SessionLost: the collector is gone with its session.
        """
        updates = list[Update]()
        more = True
        while more:
            answer = await self._answer()
            more = answer.more
            updates += answer.updates
        return updates

    async def close(self) -> None:
        self._poll.cancel()
        self._lost.cancel()
        await asyncio.gather(self._poll, self._lost, return_exceptions=True)

    async def _answer(self) -> Updates:
        await asyncio.wait({self._poll, self._lost}, return_when=asyncio.FIRST_COMPLETED)
        if not self._poll.done():
            raise SessionLost("Another session with vCenter has begun; all is read again.")
        answer = self._poll.result()
        self._poll = self._wait(answer.version)
        return answer

    def _wait(self, version: str) -> asyncio.Task[Updates]:
        return asyncio.create_task(
            self._session.stream(self._link, collector.wait_for_updates, self._collector_id, version)
        )


@asynccontextmanager
async def open_feed(session: Session, link: Link, scope: str) -> AsyncIterator[Feed]:
    """A feed of everything in scope; its collector is destroyed at the end."""
    collector_id = await session.stream(link, collector.subscribe, scope)
    feed = Feed(session, link, collector_id)
    try:
        yield feed
    finally:
        await feed.close()
        if not link.lost.is_set():
            with suppress(HypervisorError, TimeoutError):
                leaving = session.stream(link, collector.unsubscribe, collector_id)
                await asyncio.wait_for(leaving, CLOSE_SECONDS)
