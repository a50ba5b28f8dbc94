"""What all rigs have in common: a context in which they run."""

from abc import ABC, abstractmethod
from typing import Self


class Rig(ABC):
    """Runs within its context; one that does not start leaves nothing behind."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def start(self) -> None:
        """Start it, and return when it serves."""

    @abstractmethod
    def close(self) -> None:
        """End it all, and remove every trace of it."""
