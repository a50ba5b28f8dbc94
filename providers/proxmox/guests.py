"""What is known of a guest: its row of cluster/resources, its configuration and other details.

Shapes as in the API viewer (cluster/resources; nodes/{node}/qemu/{vmid}/config; nodes/{node}/lxc/{vmid}/config).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from providers.core.adapter import Ended

QEMU, LXC = "qemu", "lxc"
TIES = re.compile(r"(hostpci|virtiofs)\d+")
"""Entries of a configuration with which QEMU saves no state."""
UNMANAGED = ("", "unmanaged", "ignored")
"""HA states in which the API acts by itself (`vm_is_ha_managed` in pve-ha-manager)."""
GRACE = timedelta(seconds=60)
"""How long Proxmox VE waits where neither the request nor the guest's configuration says (qemu-server,
`_do_vm_stop`; pve-container, `vm_shutdown`)."""


@dataclass(frozen=True, slots=True)
class Guest:
    """One row of cluster/resources. `status` is QEMU's run state where it has one; `uptime` is in seconds.

    `disarmed`: HA is, and ignores what it manages until it is armed again; `ha` says what it was for HA before
    (pve-ha-manager, `disarm-ha ignore`).
    """

    id: str
    kind: str
    name: str
    node: str
    status: str
    uptime: int = 0
    lock: str = ""
    ha: str = ""
    disarmed: bool = False
    template: bool = False
    tags: str = ""
    pool: str = ""

    @property
    def path(self) -> str:
        """Where it is in the API, as long as it does not move."""
        return f"nodes/{self.node}/{self.kind}/{self.id}"

    @property
    def managed(self) -> bool:
        """Whether only HA starts and stops it."""
        return self.in_ha and not self.disarmed

    @property
    def in_ha(self) -> bool:
        """Whether it is HA's to manage, also while HA is disarmed."""
        return self.ha not in UNMANAGED


@dataclass(frozen=True, slots=True)
class Config:
    """The part of its configuration that is used. `down` is None if `startup` names no timeout."""

    agent: bool = False
    acpi: bool = True
    startup: str = ""
    down: timedelta | None = None
    protection: bool = False
    system_uuid: str = ""
    tied_by: str = ""
    """The first entry that names a device of its node's, whose state is not in its memory; if any."""


@dataclass(frozen=True, slots=True)
class GuestDetails:
    """What is known of a guest beside its row.

    `answers` is whether its agent answered the last ping (None: there was none), `ping_error` why it cannot be.
    `lock_holder` is the task behind its lock. `ended` is how its last run ended. `run` names its present run (None: it
    was not asked for yet, empty: it is not told).
    """

    config: Config | None = None
    answers: bool | None = None
    ping_error: str = ""
    lock_holder: str = ""
    ended: Ended | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Rights:
    """What the account may do, by path of the tree of permissions (access/permissions); a privilege that is not handed
    down to what is below its path has the value 0."""

    granted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def has(self, privilege: str, path: str) -> bool:
        """Whether it has a privilege on a path, which is either told, or inherits from the nearest one that is."""
        if path in self.granted or path == "/":
            return privilege in self.granted.get(path, {})
        above = path.rpartition("/")[0] or "/"
        while above not in self.granted and above != "/":
            above = above.rpartition("/")[0] or "/"
        return bool(self.granted.get(above, {}).get(privilege))


def guest(row: Mapping[str, Any]) -> Guest:
    """The guest of a row whose type is qemu or lxc. Without a report from its node yet, a row has no name."""
    return Guest(
        id=str(row["vmid"]),
        kind=row["type"],
        name=str(row.get("name") or f"{row['type']}-{row['vmid']}"),
        node=row["node"],
        status=row["status"],
        uptime=int(row.get("uptime") or 0),
        lock=row.get("lock") or "",
        ha=row.get("hastate") or "",
        template=bool(int(row.get("template") or 0)),
        tags=row.get("tags") or "",
        pool=row.get("pool") or "",
    )


def addresses(interfaces: Any) -> tuple[str, ...]:
    """Those of a guest's network interfaces, as its agent names them (`guest-network-get-interfaces`), or with their
    prefix lengths, as a container's node does; none where a guest answers something else."""
    told = list[str]()
    for row in _mappings(interfaces):
        told += [str(row.get(name) or "").partition("/")[0] for name in ("inet", "inet6")]
        told += [str(entry.get("ip-address") or "") for entry in _mappings(row.get("ip-addresses"))]
    return tuple(filter(None, told))


def _mappings(answer: Any) -> list[Mapping[str, Any]]:
    return [part for part in answer if isinstance(part, Mapping)] if isinstance(answer, list) else []


def config(answer: Mapping[str, Any]) -> Config:
    """The used part of a configuration. A property string's first value may stand without its name (`agent: 1`)."""
    startup = str(answer.get("startup") or "")
    down = _properties(startup).get("down", "")
    return Config(
        agent=_true(_properties(str(answer.get("agent", "0")), first="enabled").get("enabled", "0")),
        acpi=_true(answer.get("acpi", 1)),
        startup=startup,
        down=timedelta(seconds=int(down)) if down.isdecimal() and int(down) else None,
        protection=_true(answer.get("protection", 0)),
        system_uuid=_properties(str(answer.get("smbios1") or "")).get("uuid", "").lower(),
        tied_by=min((name for name in answer if TIES.fullmatch(name)), default=""),
    )


def _properties(text: str, first: str = "order") -> dict[str, str]:
    parts = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    return {name if equals else first: value if equals else name for name, equals, value in parts}


def _true(value: object) -> bool:
    return str(value).lower() in ("1", "yes", "true", "on")
