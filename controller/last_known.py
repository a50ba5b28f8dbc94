"""What was read last, for while it cannot be read: the API server may be what an outage took first."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from controller.source import SourceError

T = TypeVar("T")
log = structlog.get_logger()


class LastKnown(Generic[T]):
    """One thing, which logs call `what`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.known: T | None = None

    async def read(self, read: Callable[[], Awaitable[T]]) -> T:
        """As it is now or, while it cannot be read, as it was.

        Raises:
            SourceError: it has never been read.
        """
        try:
            self.known = await read()
        except SourceError as error:
            if self.known is None:
                raise
            log.warning("it cannot be read: what was read last counts", what=self._what, error=str(error))
        return self.known
