"""The cluster as a whole: fakepve, our guests in it, and what both share."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fakepve.model import PveError
from fakepve.server import FakePve

from tests.rigs.proxmox.pve.guests import Guest
from tests.rigs.proxmox.pve.tasks import Tasks

CONTAINERS = "lxc"


class Datacenter:
    """`release` is PVE's: 9, or 8 as of before qemu-server 8.3.4. With `refuses_early`, a lock is an HTTP error."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.pve: Any = FakePve(user="root@pam", password=config["root_password"])
        self.release = int(config["release"])
        self.refuses_early = bool(config["refuses_early"])
        self.pve.version, self.pve.release_version = {9: ("9.0.10", "9.0"), 8: ("8.2.7", "8.2")}[self.release]
        self.pve.time_scale = config["time_scale"]
        self.pve.users[config["user"]] = config["password"]
        self.pve.apitokens[config["token_id"]] = config["token_secret"]
        self.pve.acl = {} if config["acl"] else None
        self.pve.nodes = {name: {"online": True} for name in config["nodes"]}
        self.pve.ceph_io = self._disks
        self._check_password, self.pve.check_password = self.pve.check_password, self._proves
        self.guests = dict[str, Guest]()
        self._by_vmid = dict[int, Guest]()
        self._vmids = itertools.count(100)
        self.tasks = Tasks(self.pve)
        self.gone = list[Callable[[Guest], None]]()
        self.ha_ignores = False
        self._background = set[asyncio.Future[Any]]()

    async def pause(self, seconds: float) -> None:
        """So many of PVE's seconds."""
        await self.pve.pause(seconds)

    def later(self, seconds: float, then: Callable[[], None]) -> asyncio.TimerHandle:
        """Call `then` after so many of PVE's seconds."""
        return asyncio.get_running_loop().call_later(seconds * self.pve.time_scale, then)

    def spawn(self, work: Awaitable[Any]) -> None:
        """Do it meanwhile."""
        future = asyncio.ensure_future(work)
        self._background.add(future)
        future.add_done_callback(self._background.discard)

    def of(self, kind: str, v: Mapping[str, Any]) -> Guest:
        """The guest of a path; PVE's error for one that is not on that node."""
        find = self.pve._find_ct if kind == CONTAINERS else self.pve.find
        return self.by_vmid(find(v["node"], v["vmid"]).vmid)

    def by_vmid(self, vmid: int) -> Guest:
        return self._by_vmid[vmid]

    def add(self, key: str, behaviour: Mapping[str, Any]) -> None:
        """One guest, or `count` of them."""
        if count := behaviour.get("count"):
            for n in range(1, count + 1):
                one = {k: value for k, value in behaviour.items() if k not in {"count", "name"}}
                self.add(f"{key}-{n:04}", one)
            return
        add = self.pve.add_ct if behaviour.get("kind") == CONTAINERS else self.pve.add_vm
        node = behaviour.get("node", next(iter(self.pve.nodes)))
        fake = add(
            behaviour.get("vmid", self._vmid()), behaviour.get("name", key), node=node, pool=behaviour.get("pool")
        )
        fake.qmpstatus = "stopped"
        guest = self.guests[key] = self._by_vmid[fake.vmid] = Guest(key, fake, self.later, self._gone)
        guest.ha_ignored = self.ha_ignores
        guest.set({"power": "off" if behaviour.get("hibernated") else "on", **behaviour})

    def remove(self, key: str) -> None:
        """As if it were destroyed, also while it runs."""
        guest = self.guests.pop(key)
        del self._by_vmid[guest.vmid]
        guest.fake.ha_state = None
        guest.goes_off("crash")
        (self.pve.cts if guest.kind == CONTAINERS else self.pve.vms).remove(guest.fake)

    def refuse_locked(self, guest: Guest, error: Callable[[str], Exception]) -> None:
        """PVE::AbstractConfig::check_lock."""
        if guest.fake.lock:
            raise error(f"{guest.title.split()[0]} is locked ({guest.fake.lock})")

    def refuse_early(self, guest: Guest) -> None:
        """fakepve's way with locks: an HTTP error where PVE has a task that fails."""
        if self.refuses_early:
            self.refuse_locked(guest, lambda message: PveError(500, message))

    def _proves(self, user: str, given: str) -> bool:
        """A ticket that is still good is as good as the password (PVE::API2::AccessControl, create_ticket)."""
        session = self.pve.tickets.get(given)
        if session and session["user"] == user and session["expires"] > time.time():
            return True
        return bool(self._check_password(user, given))

    def _gone(self, guest: Guest) -> None:
        for told in self.gone:
            told(guest)

    def _vmid(self) -> int:
        """No number is given twice, so that a guest's tasks are its own."""
        return next(vmid for vmid in self._vmids if vmid not in self._by_vmid)

    async def _disks(self, vm: Any, keys: object = None) -> None:
        """fakepve asks here how slow disks are."""
        if vm.lock == "snapshot":
            await self.pause(self.by_vmid(vm.vmid).behaviour["snapshot_secs"])
