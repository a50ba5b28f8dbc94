"""Proxmox VE's errors, translated.

A call fails with a status and one line of text, a task with the same text as its exit status. The texts are those of
PVE 7 to 9: pve-guest-common (AbstractConfig.pm: locks, configurations), qemu-server (QemuServer/Agent.pm, QMPClient.pm,
QemuServer.pm), pve-container (LXC.pm), pve-cluster (Cluster.pm: quorum), pve-access-control (RPCEnvironment.pm) and
pve-common (Tools.pm: lock files; Exception.pm: permissions, parameters). Statuses of 595 and more are AnyEvent::HTTP's,
for the end of a call that a node handed to another (pve-http-server, APIServer/AnyEvent.pm).
"""

import re
from collections.abc import Mapping
from typing import Any

from proxmoxer import ResourceException

from providers.core.errors import (
    CommandFailed,
    HypervisorUnavailable,
    Locked,
    ProgramMissing,
    VMNotFound,
    VmpowerError,
)
from providers.proxmox.tasks import LOST
from providers.shared import guest_agent

_AWAY = "The node does not answer ({said}); Proxmox VE's operator looks after it, and it is asked again."

AWAY = frozenset({502, 503, 504, 595, 596, 597, 598, 599})
"""Statuses of calls that did not reach the guest's node, or whose answer did not come back."""
UNSURE = AWAY - {503, 595}
"""Those of them that may have been carried out; 595: no connection."""

_NO_QUORUM = (
    "The node is cut off from most of its cluster, so that it can be read but not changed ({said}); Proxmox VE's "
    "operator brings the other nodes back, and it is tried again."
)
_PRIVILEGE = (
    "The provider's Proxmox VE account lacks the privilege {privilege} on {path}; Proxmox VE's operator grants it "
    "(docs/proxmox.md)."
)
_PERMISSION = (
    "The provider's Proxmox VE account may not do that ({said}); Proxmox VE's operator allows it (docs/proxmox.md)."
)
_AGENT = "Its QEMU guest agent does not answer ({said}); the guest's owner looks after it."
_STATE = "The guest's state does not allow it ({said}); look at its state and ask again."
_PARAMETER = "This Proxmox VE does not take what it was told ({said}); vmpower's makers look into it."
_OTHER = "Proxmox VE refused or failed it ({said}); its operator looks into it."

TEXTS: dict[str, tuple[type[VmpowerError], str]] = {
    r"\b(?:VM|CT) is locked \((?P<lock>[^)]*)\)": (Locked, "It is locked ({lock}); it is asked again when that ends."),
    r"can't lock file '.*' - got timeout": (Locked, "Another task holds it ({said}); it is asked again."),
    r"no quorum": (HypervisorUnavailable, _NO_QUORUM),
    r"/etc/pve/.* - Permission denied": (HypervisorUnavailable, _NO_QUORUM),  # pmxcfs without quorum is read-only
    r"pve cluster filesystem not online|ipcc_send_rec\b|Unable to load access control list": (
        HypervisorUnavailable,
        _AWAY,
    ),
    r"/etc/pve/.*Transport endpoint is not connected": (HypervisorUnavailable, _AWAY),  # pmxcfs has died
    r"cfs-lock '.*' error: got lock request timeout": (
        HypervisorUnavailable,
        "Another node holds a lock of the cluster ({said}); it is asked again.",
    ),
    r"hostname lookup '.*' failed": (HypervisorUnavailable, _AWAY),  # of a node that comes or goes
    rf"^{LOST}": (HypervisorUnavailable, "What became of it is not known ({said}); it is looked up and asked again."),
    r"Configuration file '.*\b(?:qemu-server|lxc)/\d+\.conf' does not exist": (
        VMNotFound,
        "There is no such guest there any more ({said}); name one that exists.",
    ),
    r"Permission check failed \((?P<path>/[^,]*), (?P<privilege>[^)]+)\)": (CommandFailed, _PRIVILEGE),
    r"Permission check failed": (CommandFailed, _PERMISSION),
    r"No QEMU guest agent configured": (
        CommandFailed,
        "It has no QEMU guest agent ({said}); the guest's owner installs one and turns on its option.",
    ),
    guest_agent.NOT_STARTED: (ProgramMissing, guest_agent.MISSING),
    r"QEMU guest agent is not running|qga command '.*' failed|guest-ping|\bqga socket\b": (CommandFailed, _AGENT),
    r"^Agent error": (
        CommandFailed,
        "Its QEMU guest agent refused or failed it ({said}); the guest's owner looks into it.",
    ),
    r"^VM quit/powerdown failed|^container did not stop": (
        CommandFailed,
        "The guest did not go down when it was asked ({said}); its owner looks into it.",
    ),
    r"\b(?:VM|CT) \d+ (?:is )?(?P<running>not|already) running": (CommandFailed, _STATE),
    r"Parameter verification failed": (CommandFailed, _PARAMETER),
}
"""What a text means in which a pattern is found; the first pattern counts."""


class Refused(ResourceException):  # type: ignore[misc]  # proxmoxer has no types
    """Proxmox VE's refusal of a call: the HTTP status, its line of text, and what is wrong with which parameters."""

    def __init__(self, status: int, text: str, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__(status, "", text, fields)
        self.status, self.text, self.fields = status, text, fields

    @property
    def said(self) -> str:
        """Proxmox VE's own words."""
        line = (self.text or "nothing said").strip().rstrip(".")
        return "; ".join([line, *(f"{name}: {str(text).strip()}" for name, text in (self.fields or {}).items())])


def translate(refused: Refused) -> VmpowerError:
    """What a call failed with, as ours; metadata["status"] is the HTTP status."""
    otherwise = (HypervisorUnavailable, _AWAY) if refused.status in AWAY else (CommandFailed, _OTHER)
    return _ours(refused.said, otherwise, {"status": str(refused.status)})


def task_error(exitstatus: str) -> VmpowerError:
    """What a task failed with, as ours. `exitstatus` is neither OK nor WARNINGS."""
    return _ours(exitstatus.strip(), (CommandFailed, _OTHER), {})


def _ours(text: str, otherwise: tuple[type[VmpowerError], str], metadata: dict[str, str]) -> VmpowerError:
    found = ((re.search(pattern, text), meaning) for pattern, meaning in TEXTS.items())
    named, (kind, sentence) = next(((hit.groupdict(), meaning) for hit, meaning in found if hit), ({}, otherwise))
    return kind(sentence.format(said=text, **named), metadata | named)
