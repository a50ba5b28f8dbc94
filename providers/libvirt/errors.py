"""libvirt's errors and ours.

Numbers and their meaning: https://libvirt.org/html/libvirt-virterror.html.
"""

import re
from typing import Any

import libvirt

from providers.core.errors import (
    CommandFailed,
    ConnectionProblem,
    HypervisorUnavailable,
    Locked,
    VMNotFound,
    VmpowerError,
)

_CONNECTION = "The connection to libvirt failed ({why}); the provider connects again by itself."
_PERMISSION = "libvirt does not allow it ({why}); the hypervisor's operator grants this user access."
_AGENT = "The guest agent does not answer ({why}); the guest's owner looks after qemu-guest-agent in it."
_BUSY = "Another job holds the VM ({why}); wait for its end, or the hypervisor's operator aborts it."
_CANNOT = "libvirt or this VM's configuration does not offer that ({why}); the VM's owner changes it."
_STATE = "The VM's state does not allow it ({why}); look at its state and ask again."
_LOOKS_AFTER = "the hypervisor's operator looks after it"
_OTHER = "libvirt failed ({why}); the hypervisor's operator looks into it."

NATIVE_ERRORS: dict[int, tuple[type[VmpowerError], str]] = {
    libvirt.VIR_ERR_NO_DOMAIN: (VMNotFound, "There is no such VM ({why}); name one that exists."),
    libvirt.VIR_ERR_INVALID_CONN: (HypervisorUnavailable, _CONNECTION),
    libvirt.VIR_ERR_NO_CONNECT: (HypervisorUnavailable, _CONNECTION),
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE: (CommandFailed, _AGENT),
    libvirt.VIR_ERR_AGENT_UNSYNCED: (CommandFailed, _AGENT),
    libvirt.VIR_ERR_OPERATION_INVALID: (CommandFailed, _STATE),
    libvirt.VIR_ERR_OPERATION_TIMEOUT: (Locked, _BUSY),
    libvirt.VIR_ERR_RESOURCE_BUSY: (Locked, _BUSY),
    libvirt.VIR_ERR_BLOCK_COPY_ACTIVE: (Locked, _BUSY),
    libvirt.VIR_ERR_OPERATION_DENIED: (CommandFailed, _PERMISSION),
    libvirt.VIR_ERR_ACCESS_DENIED: (CommandFailed, _PERMISSION),
    libvirt.VIR_ERR_AUTH_FAILED: (CommandFailed, _PERMISSION),
    libvirt.VIR_ERR_AUTH_CANCELLED: (CommandFailed, _PERMISSION),
    libvirt.VIR_ERR_AUTH_UNAVAILABLE: (CommandFailed, _PERMISSION),
    libvirt.VIR_ERR_NO_SUPPORT: (CommandFailed, _CANNOT),
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: (CommandFailed, _CANNOT),
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED: (CommandFailed, _CANNOT),
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: (CommandFailed, _CANNOT),
}
"""Every other code is a CommandFailed with libvirt's own message: the agent's refusals, for instance, are
internal errors to libvirt. What any code means while the connection is gone: HypervisorUnavailable."""


def translate(error: Any, alive: bool) -> VmpowerError:
    """A libvirtError as ours. `alive`: whether the connection it came over still stands."""
    why = str(error)
    if not alive:
        return HypervisorUnavailable(_CONNECTION.format(why=why))
    kind, sentence = NATIVE_ERRORS.get(error.get_error_code(), (CommandFailed, _OTHER))
    return kind(sentence.format(why=why))


SSH: dict[str, str] = {
    r"Host key verification failed|authenticity of host": "the provider's operator adds the host's key to known_hosts",
    r"Permission denied \(|Too many authentication failures": "the hypervisor's operator lets the provider's key in",
    r"Could not resolve hostname": "the provider's operator mends the host's name in --uri",
    r"Connection refused|Connection timed out|No route to host|Network is unreachable": (
        "the hypervisor's operator looks after the host and its sshd"
    ),
    r"nc: .*not found|virt-ssh-helper.*not found|nc: .*Permission denied|libvirt-sock": (
        "the hypervisor's operator looks after libvirt on the host, and lets the user of --uri into it"
    ),
    r"cannot (?:recv|write) data: .*(?:No such file|Cannot exec)|Cannot (?:find|exec) '?ssh": (
        "the provider's operator installs ssh beside the provider"
    ),
}
"""What ssh says, to libvirt only text, and who acts. ssh's words: OpenSSH's sshconnect.c and sshconnect2.c."""


_REFUSALS = frozenset({libvirt.VIR_ERR_AUTH_FAILED, libvirt.VIR_ERR_AUTH_CANCELLED, libvirt.VIR_ERR_AUTH_UNAVAILABLE})
_PROBLEMS = {
    r"Failed to connect socket to .*: Permission denied": ConnectionProblem.NOT_PERMITTED,
    r"(?i)certificate|host key": ConnectionProblem.CERTIFICATE,
    r"Permission denied \(|authentication fail|polkit": ConnectionProblem.LOGIN_REFUSED,
}
"""What a connection's errors mean by their texts: libvirt's (src/rpc/virnetsocket.c, virnettlscontext.c) and ssh's."""


def problem(error: Any) -> ConnectionProblem:
    """What keeps us from a libvirt that could not be connected to."""
    if error.get_error_code() in _REFUSALS:
        return ConnectionProblem.LOGIN_REFUSED
    words = " ".join(str(error).split())
    found = (meaning for text, meaning in _PROBLEMS.items() if re.search(text, words))
    return next(found, ConnectionProblem.UNREACHABLE)


def unreachable(where: str, why: str) -> str:
    """A connection that could not be opened, in one sentence; `where` is the URI without its secrets."""
    words = " ".join(why.split())  # ssh's come on several lines
    acts = next((who for text, who in SSH.items() if "+ssh:" in where and re.search(text, words)), "")
    return f"libvirt cannot be reached at {where} ({words}); {acts or _LOOKS_AFTER}."
