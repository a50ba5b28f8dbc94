"""Guests that a test runs, and programs in them."""

from collections.abc import Callable

from providers.core.adapter import GuestExit
from providers.libvirt.adapter import LibvirtAdapter
from tests.e2e.following import GRACE, ended, following, watching

__all__ = ["GRACE", "Run", "ended", "execute", "following", "watching"]

Run = Callable[..., str]
"""Starts a guest, waits until it is ready and returns its id."""


async def execute(adapter: LibvirtAdapter, vm_id: str, *command: str) -> GuestExit:
    return await ended(await adapter.guest_exec(vm_id, command, None))
