"""One UPS, read again and again, through outages of its upsd."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from common.backoff import Backoff
from plans.model import Nut
from plans.ups.client import Address, Credentials, Refused, Session, UpsError
from plans.ups.stages import Reading

FIRST_PAUSE = 0.5
"""Seconds before the first try to reach an upsd again."""


class NotLetIn(Exception):
    """A UPS that was never read refuses us, and will go on to: the operator has to set something."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read of a UPS; None: it could not be, and why."""

    ups: str
    reading: Reading | None
    problem: str = ""


async def follow(nut: Nut, login: Credentials, ups: str, seen: Callable[[Seen], None]) -> None:
    """Read it each `pollEvery`, and tell each time. It goes on until it is cancelled, and logs out then.

    Raises:
        NotLetIn
    """
    pause, known = nut.poll_every.total_seconds(), False
    pauses = Backoff(min(FIRST_PAUSE, pause), max(FIRST_PAUSE, pause))
    while True:
        try:
            session = await Session.open(Address.of(ups), await login())
            try:
                while True:
                    seen(await _look(session, ups))
                    known = True
                    pauses.reset()
                    await asyncio.sleep(pause)
            finally:
                await asyncio.shield(session.close())
        except UpsError as error:
            if isinstance(error, Refused) and error.lasts and not known:
                raise NotLetIn(f"{ups}: {error}") from None
            seen(Seen(ups, None, str(error)))
        await asyncio.sleep(pauses.next())


async def _look(session: Session, ups: str) -> Seen:
    """One reading. Where upsd has no news of the UPS we stay logged in: the primary may be about to set FSD.

    Raises:
        UpsError: the connection is lost.
    """
    try:
        return Seen(ups, await session.read())
    except Refused as refused:
        return Seen(ups, None, str(refused))
