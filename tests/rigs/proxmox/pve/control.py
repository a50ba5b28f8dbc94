"""What tests do to the cluster: each public method is an action of the control port."""

import time
from collections.abc import Mapping
from typing import Any

from fakepve.model import TaskError

from tests.rigs.proxmox.pve.containers import Containers
from tests.rigs.proxmox.pve.datacenter import Datacenter
from tests.rigs.proxmox.pve.edge import Edge
from tests.rigs.proxmox.pve.guests import Guest
from tests.rigs.proxmox.pve.ha import Ha
from tests.rigs.proxmox.pve.qemu import ROOT, Qemu
from tests.rigs.proxmox.pve.resources import Resources


class Control:
    """tests/rigs/proxmox/cluster.py says what each action means."""

    def __init__(self, datacenter: Datacenter, edge: Edge, ha: Ha, resources: Resources) -> None:
        self._dc = datacenter
        self._pve = datacenter.pve
        self._edge = edge
        self._ha = ha
        self._resources = resources

    # Guests

    async def show(self, key: str) -> dict[str, Any]:
        guest = self._dc.guests[key]
        names = ("vmid", "kind", "pid", "on_at", "off_at", "off_cause", "ends", "asked", "heard", "execs")
        return {name: getattr(guest, name) for name in names} | {
            "node": guest.fake.node,
            "power": guest.fake.qmpstatus,
            "lock": guest.fake.lock,
            "ha": guest.fake.ha_state,
            "config": guest.fake.config,
            "snapshots": guest.fake.snapshots,
        }

    async def set(self, key: str, behaviour: Mapping[str, Any]) -> None:
        self._dc.guests[key].set(behaviour)
        self._ha.look_at(self._dc.guests[key])

    async def add(self, key: str, behaviour: Mapping[str, Any]) -> None:
        self._dc.add(key, behaviour)

    async def remove(self, key: str) -> None:
        self._dc.remove(key)

    async def rename(self, key: str, name: str) -> None:
        guest = self._dc.guests[key]
        guest.fake.config["name" if guest.kind == "qemu" else "hostname"] = name
        if guest.kind == "qemu":
            guest.fake.name = name

    async def power(self, key: str, how: str) -> str | None:
        """A task's UPID where there is one."""
        guest = self._dc.guests[key]
        hands: Qemu | Containers = self._ha.hands[guest.kind]  # type: ignore[assignment]  # what __main__ put there
        match how:
            case "on":
                return await hands.start(guest, ROOT)
            case "off":
                return await hands.stop(guest, ROOT)
            case "off-by-guest":
                guest.goes_off("guest")
            case "crash":
                guest.goes_off("crash")
            case "resume":
                guest.resume()
            case "pause":
                guest.pause("paused")
            case _:
                guest.pause(how)
        return None

    async def lock(self, key: str, lock: str | None) -> None:
        self._dc.guests[key].set_lock(lock)

    async def hold_config_lock(self, key: str, seconds: float) -> None:
        guest = self._dc.guests[key]
        await self._pve.acquire(guest.fake, "colleague", wait=0)
        self._dc.later(seconds, lambda: self._pve.release(guest.fake, "colleague"))

    async def backup(self, key: str, seconds: float) -> str:
        """vzdump: the config says `lock: backup` all the while; its lock file is free."""
        guest = self._dc.guests[key]

        async def body() -> str:
            self._dc.refuse_locked(guest, TaskError)
            guest.set_lock("backup")
            try:
                await self._dc.pause(seconds)
            finally:
                guest.set_lock(None)
            return f"INFO: Finished Backup of {guest.title}"

        return await self._task(guest, "vzdump", body, lock=False)

    async def migrate(self, key: str, target: str, seconds: float) -> str:
        """The migration holds the lock file too, from its beginning to its end (PVE::AbstractMigrate)."""
        guest = self._dc.guests[key]

        async def body() -> str:
            self._dc.refuse_locked(guest, TaskError)
            guest.set_lock("migrate")
            try:
                await self._dc.pause(seconds)
                guest.fake.node = target
                if guest.running:
                    guest.gets_process()
            finally:
                guest.set_lock(None)
            return "migration finished successfully"

        return await self._task(guest, "qmigrate" if guest.kind == "qemu" else "vzmigrate", body, lock=True)

    async def _task(self, guest: Guest, kind: str, body: Any, *, lock: bool) -> str:
        vm = guest.fake if lock else None
        return await self._dc.tasks.start(guest.fake.node, kind, guest.vmid, ROOT, body, vm=vm)

    async def task(self, upid: str) -> dict[str, Any]:
        """A task as it is now."""
        task: dict[str, Any] = self._pve.tasks[upid]
        return task

    async def ended(self, upid: str) -> str:
        return await self._dc.tasks.ended(upid)

    async def gone(self, key: str) -> None:
        await self._dc.guests[key].gone.wait()

    # The cluster

    async def omit(self, key: str, times: int | None) -> None:
        self._resources.omitted[self._dc.guests[key].vmid] = times

    async def list_again(self, key: str) -> None:
        self._resources.omitted.pop(self._dc.guests[key].vmid, None)

    async def disarm_ha(self, mode: str) -> None:
        self._ha.disarm(mode)

    async def arm_ha(self) -> None:
        self._ha.arm()

    async def quorum(self, quorate: bool) -> None:
        self._pve.quorate = quorate
        for guest in self._dc.guests.values():
            self._ha.look_at(guest)

    async def node_down(self, node: str, forgotten: bool, silence: float) -> None:
        self._pve.nodes[node]["online"] = False
        self._edge.silence[node] = silence
        if not forgotten:
            self._resources.silent.add(node)
        for endpoint in self._edge.endpoints:
            if endpoint.node == node:
                await endpoint.down()

    async def node_up(self, node: str) -> None:
        self._pve.nodes[node]["online"] = True
        self._edge.silence.pop(node, None)
        self._resources.silent.discard(node)
        for endpoint in self._edge.endpoints:
            if endpoint.node == node:
                await endpoint.up()

    async def endpoints(self, up: bool, index: int | None = None) -> None:
        chosen = self._edge.endpoints if index is None else [self._edge.endpoints[index]]
        for endpoint in chosen:
            await (endpoint.up() if up else endpoint.down())

    async def expire_tickets(self) -> None:
        self._pve.revoke_tickets()

    async def rotate(self, user: str, password: str) -> None:
        self._pve.users[user] = password

    async def rotate_token(self, token_id: str, secret: str) -> None:
        self._pve.apitokens[token_id] = secret

    async def grant(self, who: str, path: str, privileges: list[str]) -> None:
        self._pve.grant(who, path, *privileges)

    async def fail(self, method: str, suffix: str, status: int, message: str, times: int | None, lost: bool) -> None:
        if lost:
            what = {"method": method, "suffix": suffix, "status": status, "message": message}
            self._edge.lost.append(what | {"times": 1 if times is None else times})
        else:
            self._pve.fail(method, suffix, status, message, times=times)

    # What clients did

    async def requests(self) -> list[Any]:
        return self._edge.requests

    async def calls(self) -> dict[str, int]:
        return self._edge.calls

    async def reset_calls(self) -> dict[str, int]:
        calls = dict(self._edge.calls)
        self._edge.calls.clear()
        self._edge.requests.clear()
        return calls

    async def connections(self) -> int:
        return self._edge.connections

    async def now(self) -> float:
        """Its clock."""
        return time.time()
