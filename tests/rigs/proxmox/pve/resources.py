"""cluster/resources, as PVE::API2::Cluster and pvestatd make it: what is fresh there, and what is not.

fakepve's is always fresh, says `running` of guests that are paused, and `unknown` of a node as soon as it is away.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

from fakepve import server as fake_server

from tests.rigs.proxmox.pve.datacenter import Datacenter
from tests.rigs.proxmox.pve.guests import Guest
from tests.rigs.proxmox.pve.tasks import Routes

MIB = 1 << 20


class Resources:
    """What pvestatd of each node last said of its guests is up to `stale` of PVE's seconds old; in PVE, 10.

    Node, lock, tags and the state of HA come from the cluster's own files and are never old.
    """

    def __init__(self, datacenter: Datacenter, stale: float) -> None:
        self._dc = datacenter
        self._stale = stale
        self._said = dict[int, dict[str, Any]]()
        self.omitted = dict[int, int | None]()  # vmids that are left out, and how often still; None: until told
        self.silent = set[str]()  # nodes that are away, but for less than the 5 minutes that status.c remembers
        if stale:
            datacenter.spawn(self._broadcast())

    def routes(self) -> Routes:
        """The calls that are answered here."""
        return {
            ("GET", "/cluster/resources"): self._resources,
            ("GET", "/nodes/{node}/qemu/{vmid}/status/current"): self._qemu_now,
            ("GET", "/nodes/{node}/lxc/{vmid}/status/current"): self._container_now,
            ("GET", "/nodes/{node}/qemu"): self._qemu_of_node,
            ("GET", "/nodes/{node}/lxc"): self._containers_of_node,
        }

    async def _qemu_of_node(self, v: Mapping[str, Any], user: str) -> list[dict[str, Any]]:
        return self._of_node("qemu", v["node"], user)

    async def _containers_of_node(self, v: Mapping[str, Any], user: str) -> list[dict[str, Any]]:
        return self._of_node("lxc", v["node"], user)

    def _of_node(self, kind: str, node: str, user: str) -> list[dict[str, Any]]:
        """What a node says of all its guests of a kind: always fresh, without QEMU's run state."""
        may, pve = self._dc.pve.allowed, self._dc.pve
        there = [guest for guest in self._dc.guests.values() if (guest.kind, guest.fake.node) == (kind, node)]
        seen = [guest for guest in there if may(user, f"/vms/{guest.vmid}", "VM.Audit")]
        if kind == "lxc":
            return [_with_process(pve._status(guest.fake), guest) for guest in seen]
        return [_with_process(pve._vm_status(guest.fake, listing=True), guest) for guest in seen]

    async def _qemu_now(self, v: Mapping[str, Any], _user: str) -> dict[str, Any]:
        """What its own node says: always fresh. `agent` is only there if the config has it."""
        guest = self._dc.of("qemu", v)
        now: dict[str, Any] = self._dc.pve._vm_status(guest.fake) | {"ha": _ha(guest)}
        del now["agent"]
        now = _with_process(now, guest)
        return now | ({"agent": 1} if guest.agent_enabled else {})

    async def _container_now(self, v: Mapping[str, Any], _user: str) -> dict[str, Any]:
        guest = self._dc.of("lxc", v)
        return _with_process(self._dc.pve._status(guest.fake) | {"ha": _ha(guest)}, guest)

    async def _broadcast(self) -> None:
        while True:
            for guest in list(self._dc.guests.values()):
                if self._online(guest):
                    self._said[guest.vmid] = _stats(guest)
            await self._dc.pause(self._stale)

    async def _resources(self, v: Mapping[str, Any], user: str) -> list[dict[str, Any]]:
        if v.get("type") not in {None, "vm"}:
            return await self._others(user, v["type"])
        may = self._dc.pve.allowed
        guests = [
            self._item(guest, user)
            for guest in sorted(self._dc.guests.values(), key=lambda guest: guest.vmid)
            if may(user, f"/vms/{guest.vmid}", "VM.Audit") and not self._omits(guest)
        ]
        if v.get("type") == "vm":
            return guests
        return guests + await self._others(user, "node") + await self._others(user, "storage")

    def _omits(self, guest: Guest) -> bool:
        """Whether it is left out, as one that just moves from node to node may be."""
        if guest.vmid not in self.omitted:
            return False
        left = self.omitted[guest.vmid]
        if left is not None:
            self.omitted[guest.vmid] = left - 1
            if left <= 1:
                del self.omitted[guest.vmid]
        return True

    async def _others(self, user: str, kind: str) -> list[dict[str, Any]]:
        """Nodes and storages are fakepve's."""
        answer = await self._dc.pve._resources(_Asked({"type": kind}, user))
        others: list[dict[str, Any]] = json.loads(answer.text)["data"]
        return others

    def _item(self, guest: Guest, user: str) -> dict[str, Any]:
        fake = guest.fake
        item = {"id": fake.guest, "vmid": guest.vmid, "node": fake.node, "type": guest.kind}
        item |= self._stats(guest)
        optional = {"lock": fake.lock, "tags": fake.config.get("tags"), "hastate": fake.ha_state}
        if fake.pool and self._dc.pve.allowed(user, f"/pool/{fake.pool}", "Pool.Audit"):
            optional["pool"] = fake.pool
        return item | {key: value for key, value in optional.items() if value}

    def _stats(self, guest: Guest) -> dict[str, Any]:
        """Nothing is known of a guest that no pvestatd has spoken of, not even its name."""
        if not self._stale and self._online(guest):
            self._said[guest.vmid] = _stats(guest)
        if not self._online(guest) and guest.fake.node not in self.silent:
            return {"status": "unknown"}
        return self._said.get(guest.vmid, {"status": "unknown"})

    def _online(self, guest: Guest) -> bool:
        return bool(self._dc.pve.nodes[guest.fake.node]["online"])


class _Asked(dict[Any, str]):
    """As much of a request as fakepve reads here."""

    def __init__(self, query: dict[str, str], user: str) -> None:
        super().__init__({fake_server.USER: user})
        self.query = query


def _with_process(said: dict[str, Any], guest: Guest) -> dict[str, Any]:
    """fakepve's process of a guest is the same in all its runs."""
    said.pop("pid", None)
    return said | ({"pid": guest.pid} if guest.pid else {})


def _ha(guest: Guest) -> dict[str, Any]:
    return {"managed": 1, "state": guest.fake.ha_state} if guest.ha_managed else {"managed": 0}


def _stats(guest: Guest) -> dict[str, Any]:
    """PVE::Service::pvestatd: the status is QEMU's run state, so that of a paused guest is `paused`."""
    fake = guest.fake
    running = guest.running
    return {
        "name": fake.name,
        "status": fake.qmpstatus if guest.kind == "qemu" else fake.status,
        "template": 1 if fake.template else 0,
        "uptime": int(time.time() - fake.started_at) if running else 0,
        "maxcpu": 1,
        "cpu": 0.02 if running else 0,
        "maxmem": 512 * MIB,
        "mem": 64 * MIB if running else 0,
        "maxdisk": 8192 * MIB,
        **dict.fromkeys(("disk", "netin", "netout", "diskread", "diskwrite"), 0),
    }
