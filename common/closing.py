"""Things that are open, and must not stay so when what opened them fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar


class Closable(Protocol):
    """A file, a connection."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


@contextmanager
def closed_on_failure(opened: C) -> Iterator[C]:
    """Close it if the block fails; else it stays open, for its owner to close."""
    try:
        yield opened
    except BaseException:
        opened.close()
        raise
