"""What the QEMU guest agent says of a program's end; libvirt and Proxmox VE hand on the same reply.

https://qemu.org/docs/master/interop/qemu-ga-ref.html, `guest-exec-status`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from providers.core.adapter import GuestExit, exit_code

NOT_STARTED = r"Failed to execute (?:child process|helper program)"
"""How the agent's words begin where a program is missing in the guest, or may not be started (GLib's gspawn.c)."""
MISSING = "The guest cannot start the program ({said}); the hook's owner mends the command or installs it in the guest."
Decode = Callable[[str], bytes]
"""Decodes a program's output as the hypervisor encodes it."""


def exit_of(reply: Mapping[str, Any], decode: Decode) -> GuestExit | None:
    """Its end, or None while it runs. A program that a signal ended has the exit code a shell would give it.

    In Windows `signal` is the unhandled exception's code, as a negative number.
    """
    if not int(reply["exited"]):
        return None
    signal = int(reply.get("signal", 0))
    code = 128 + signal if signal > 0 else signal or int(reply.get("exitcode", 0))
    return GuestExit(exit_code(code), _stream(reply, "out", decode) + _stream(reply, "err", decode))


def _stream(reply: Mapping[str, Any], name: str, decode: Decode) -> bytes:
    data = decode(str(reply.get(f"{name}-data") or ""))
    cut = int(reply.get(f"{name}-truncated") or 0)
    return data + b"\n[the guest agent kept no more of this]\n" if cut else data
