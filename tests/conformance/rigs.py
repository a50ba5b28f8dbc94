"""Servers that the suite can start by itself; the only file here that knows how any of them comes about."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.conformance.target import Target

NAMES: list[str] = ["sim"]


@contextmanager
def start(name: str) -> Iterator[Target]:
    """A running server, stopped again at the end."""
    raise NotImplementedError(name)
