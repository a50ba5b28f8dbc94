"""A connection that is lost while a command waits: it is told once, and given up in the end."""

import asyncio
from collections.abc import Callable

from cli.errors import unreachable
from client.errors import ProviderError
from client.power import raise_refusal

RETRY_FOR = 300.0
"""Seconds until a lost connection is given up."""


class Outage:
    """For one stream. `note` shows a line to the person who waits."""

    def __init__(self, address: str, note: Callable[[str], None]) -> None:
        self._address, self._note = address, note
        self._began: float | None = None

    def on_break(self, error: ProviderError) -> None:
        """The stream broke.

        Raises:
            ProviderError: it was refused.
            Failure: the connection has been lost for RETRY_FOR.
        """
        raise_refusal(error)
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began = now
            self._note("The connection is lost; trying to take it up again.")
        if now - self._began >= RETRY_FOR:
            raise unreachable(self._address, error.message)

    def over(self) -> bool:
        """The stream says something: the connection is there, again or still. Whether it had been lost."""
        lost = self._began is not None
        if lost:
            self._began = None
            self._note("Connected again.")
        return lost
