"""Programs in a guest, by its QEMU guest agent through Proxmox VE (nodes/{node}/qemu/{vmid}/agent/exec).

The agent runs them as the guest's administrator and asks for no login; no shell is in between. It keeps up to 16 MiB of
output (https://qemu.org/docs/master/interop/qemu-ga-ref.html).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from providers.core.adapter import GuestExit
from providers.shared import guest_agent


class GuestProgram:
    """A program that the guest's agent started."""

    def __init__(self, pid: int, ask: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        self._pid, self._ask = pid, ask

    @property
    def pid(self) -> str:
        return str(self._pid)

    async def poll(self) -> GuestExit | None:
        """Its end, or None while it runs. The agent tells an end only once."""
        return exit_of(await self._ask())


def exit_of(answer: Mapping[str, Any]) -> GuestExit | None:
    """An exec-status answer."""
    return guest_agent.exit_of(answer, _bytes)


def _bytes(text: str) -> bytes:
    """Proxmox VE hands over bytes as if each were a character (qemu-server, `qemu_exec_status`)."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()
