"""What a history needs of a hypervisor: guests, a provider, harm behind its back, and the books to audit by."""

import shutil
from abc import abstractmethod
from collections.abc import Sequence
from random import Random
from typing import ClassVar

from tests.rigs.process import Provider
from tests.rigs.rig import Rig
from tests.soak.history import Guest, History, Record

EXTRA = ["--allow-guest-exec", "--http-hook-hosts", "127.0.0.1", "--drain-timeout", "1s"]


class Impossible(Exception):
    """A kind of harm that cannot be done on this machine, or by this user."""


class Ground(Rig):
    """One hypervisor of its own with its guests, and a provider that is not yet started."""

    name: ClassVar[str]
    harms: ClassVar[frozenset[str]]
    """Those of this hypervisor, beside those that are done to any provider."""
    quiet: ClassVar[float]
    """Seconds after which a guest that was asked has gone down, or will not."""
    keeps_saves: ClassVar[bool] = False
    """Whether its books tell when memory was saved, so that clients may ask for that."""
    guests: Sequence[Guest]
    provider: Provider

    def __init__(self, history: History) -> None:
        self.history = history

    def close(self) -> None:
        """End the provider, if it runs or is frozen."""
        if self.provider.runs():
            self.provider.thaw()
            self.provider.kill()
        shutil.rmtree(self.provider.folder)

    @abstractmethod
    async def do(self, harm: str, rng: Random) -> None:
        """Do one of `harms` to a guest of its choice or to all, and write it down."""

    @abstractmethod
    async def heal(self) -> None:
        """The hypervisor answers again, and nothing fails any more."""

    @abstractmethod
    def calls(self) -> int:
        """How many the provider made so far."""

    @abstractmethod
    def books(self, tokens: Sequence[str]) -> list[Record]:
        """All guests, their runs and cuts since the start, and how often each token is on a guest's console."""
