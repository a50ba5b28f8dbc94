"""Logging in: a login from files, which is not tried again if it was just refused; callers share one attempt."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Generic, TypeVar

from providers.core.errors import ConnectionProblem, HypervisorUnavailable

T = TypeVar("T")


class SharedLogin(Generic[T]):
    """What `attempt` returns, kept until it is forgotten; callers that come meanwhile share the attempt."""

    def __init__(self, attempt: Callable[[], Awaitable[T]]) -> None:
        self._attempt = attempt
        self._task: asyncio.Task[T] | None = None

    @property
    def current(self) -> T | None:
        """What the last attempt returned; None while there is none, it failed, or it was forgotten."""
        task = self._task
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    async def get(self) -> T:
        """What the last attempt returned, or returns.

        Raises:
            Exception: what the attempt raises; the next caller begins another one.
        """
        if self._task is None or (self._task.done() and self.current is None):
            self._task = asyncio.ensure_future(self._attempt())
        return await asyncio.shield(self._task)

    def forget(self, value: T) -> None:
        """`value` is of no more use; the next caller logs in, unless another one has done so already."""
        if self.current is value:
            self._task = None

    def close(self) -> None:
        """Log in no more."""
        if self._task:
            self._task.cancel()
        self._task = None


class Credentials(Generic[T]):
    """The login in the files of `folder`, as `read` finds it there each time. `hypervisor` is named in sentences.

    The login that was refused last (`refusal` says so) is not used again for `seconds`: that may lock the account.
    """

    def __init__(
        self,
        hypervisor: str,
        folder: Path,
        read: Callable[[Path], T],
        refusal: Callable[[T], HypervisorUnavailable],
        seconds: float,
    ) -> None:
        self._hypervisor, self._folder, self._read, self._refusal = hypervisor, folder, read, refusal
        self._seconds = seconds
        self._refused: tuple[T, float] | None = None

    def get(self) -> T:
        """The login as it is now.

        Raises:
            HypervisorUnavailable: it cannot be read, or this very login was refused less than `seconds` ago.
        """
        try:
            login = self._read(self._folder)
        except (OSError, ValueError) as error:
            message = (
                f"{self._hypervisor}'s login cannot be read ({error}); the provider's operator mends --credentials-dir."
            )
            raise HypervisorUnavailable(message, problem=ConnectionProblem.LOGIN_REFUSED) from error
        if self._refused and self._refused[0] == login and time.monotonic() < self._refused[1] + self._seconds:
            raise self._refusal(login)
        return login

    def refuse(self, login: T) -> HypervisorUnavailable:
        """Note that this login was refused; returns the error that says so."""
        self._refused = login, time.monotonic()
        return self._refusal(login)


def read_login(folder: Path, files: tuple[str, str] = ("username", "password")) -> tuple[str, str]:
    """The lines in two files of a directory, as Kubernetes mounts a Secret of type kubernetes.io/basic-auth.

    Raises:
        OSError, ValueError: a file cannot be read, or is no text.
    """
    name, secret = ((folder / file).read_text(encoding="utf-8").rstrip("\r\n") for file in files)
    return name, secret
