"""Programs in a guest, by its QEMU guest agent through Proxmox VE (nodes/{node}/qemu/{vmid}/agent/exec).

The agent runs them as the guest's administrator and asks for no login; no shell is in between. It keeps up to 16 MiB of
output (https://qemu.org/docs/master/interop/qemu-ga-ref.html).
"""

from collections.abc import Mapping
from typing import Any

from providers.core.adapter import GuestExit
from providers.shared import guest_agent


def exit_of(answer: Mapping[str, Any]) -> GuestExit | None:
    """An exec-status answer."""
    return guest_agent.exit_of(answer, _bytes)


def _bytes(text: str) -> bytes:
    """Proxmox VE hands over bytes as if each were a character (qemu-server, `qemu_exec_status`)."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()
