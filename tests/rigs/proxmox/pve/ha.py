"""Guests that HA manages: requests are only noted, and the CRM and the LRM carry them out (pve-ha-manager).

fakepve switches such guests off without asking them. `ha_delay` (PVE's seconds) passes between a request and what HA
does: half until the CRM sees it, half until the LRM acts. Both have rounds of 5 to 10 s.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from fakepve.model import PveError, TaskError

from tests.rigs.proxmox.pve.datacenter import Datacenter
from tests.rigs.proxmox.pve.guests import Guest
from tests.rigs.proxmox.pve.tasks import Routes

LRM = "root@pam"
SIDS = {"qemu": "vm", "lxc": "ct"}


class Hands(Protocol):
    """What the LRM uses: the same code that answers the API."""

    async def start(self, guest: Guest, user: str, log: list[str] | None = None) -> str: ...
    async def stop(self, guest: Guest, user: str, log: list[str] | None = None, *, cause: str) -> str: ...
    async def shutdown(
        self, guest: Guest, user: str, log: list[str] | None = None, *, timeout: int | None, force: bool, cause: str
    ) -> str: ...


class Ha:
    """The HA manager. The crm state of a guest is `fake.ha_state`; what is wanted of it, `wanted`."""

    def __init__(self, datacenter: Datacenter, delay: float) -> None:
        self._dc = datacenter
        self._delay = delay
        self._stops = dict[int, int]()  # timeouts in seconds, by vmid: crm commands that wait
        self._busy = set[int]()
        self._disarmed: str | None = None  # what becomes of resources meanwhile: `freeze` or `ignore`
        self._frozen = dict[int, str]()  # what they were before
        self.hands = dict[str, Hands]()
        datacenter.gone.append(self.look_at)

    def routes(self) -> Routes:
        """The calls that are answered here."""
        return {
            ("GET", "/cluster/ha/status/current"): self._status,
            ("GET", "/cluster/ha/resources/{sid}"): self._resource,
        }

    async def request_stop(self, guest: Guest, user: str, timeout: int) -> str:
        """hastop: a task that ends as soon as the request is noted. 0 means at once."""

        def noted() -> None:
            self._stops[guest.vmid] = timeout

        return await self._request(guest, user, "stop", f"crm-command stop {_sid(guest)} {timeout}", noted)

    async def request_start(self, guest: Guest, user: str) -> str:
        """hastart."""

        def noted() -> None:
            guest.wanted = "started"

        return await self._request(guest, user, "start", f"set {_sid(guest)} --state started", noted)

    def disarm(self, mode: str) -> None:
        """disarm-ha (`handle_disarm`): what is ignored keeps its state, and the API acts on it by itself."""
        self._disarmed, self._dc.ha_ignores = mode, mode == "ignore"
        for guest in self._dc.guests.values():
            guest.ha_ignored = self._dc.ha_ignores
            if mode == "freeze" and guest.fake.ha_state is not None:
                self._frozen[guest.vmid], guest.fake.ha_state = guest.fake.ha_state, "freeze"

    def arm(self) -> None:
        """arm-ha: all is done again as the configuration says."""
        self._disarmed, self._dc.ha_ignores = None, False
        for guest in self._dc.guests.values():
            guest.ha_ignored = False
            guest.fake.ha_state = self._frozen.pop(guest.vmid, guest.fake.ha_state)
            self.look_at(guest)

    def look_at(self, guest: Guest) -> None:
        """Something has changed: the manager's next round sees it."""
        if guest.ha_managed and guest.vmid not in self._busy:
            self._dc.spawn(self._rounds(guest))

    async def _request(self, guest: Guest, user: str, what: str, command: str, noted: Callable[[], None]) -> str:
        log = [f"Requesting HA {what} for {guest.title}"]

        async def body() -> None:
            if guest.fake.ha_state == "error":
                log.append(f"service '{_sid(guest)}' in error state, must be disabled and fixed first")
            elif not self._dc.pve.quorate:
                log.append("cfs-lock 'domain-ha' error: no quorum!")
            else:
                noted()
                self.look_at(guest)
                return
            raise TaskError(f"command 'ha-manager {command}' failed: exit code 255")

        return await self._dc.tasks.start(guest.fake.node, f"ha{what}", guest.vmid, user, body, log=log)

    async def _rounds(self, guest: Guest) -> None:
        self._busy.add(guest.vmid)
        try:
            while self._due(guest):
                await self._dc.pause(self._delay / 2)
                if work := self._due(guest):
                    await work(guest)
        finally:
            self._busy.discard(guest.vmid)

    def _due(self, guest: Guest) -> Callable[[Guest], Awaitable[None]] | None:
        state = guest.fake.ha_state
        if not self._dc.pve.quorate or self._disarmed:
            return None
        if guest.vmid in self._stops:
            return self._stop
        if guest.wanted == "started" and state in {"started", "stopped"} and not guest.running:
            return self._start
        return None

    async def _stop(self, guest: Guest) -> None:
        """A guest that does not go off leaves its service in state error: containers are never forced by HA."""
        timeout = self._stops.pop(guest.vmid)
        if guest.fake.ha_state != "started":
            return
        guest.fake.ha_state, guest.wanted = "request_stop", "stopped"
        await self._dc.pause(self._delay / 2)
        if guest.running:
            await self._dc.tasks.ended(await self._take_down(guest, timeout))
        guest.fake.ha_state = "error" if guest.running else "stopped"

    async def _take_down(self, guest: Guest, timeout: int) -> str:
        log = ["task started by HA resource agent"]
        hands = self.hands[guest.kind]
        if not timeout:
            return await hands.stop(guest, LRM, log, cause="ha")
        force = guest.kind == "qemu"  # PVE::HA::Resources::PVEVM gives forceStop, PVECT does not
        return await hands.shutdown(guest, LRM, log, timeout=timeout, force=force, cause="ha")

    async def _start(self, guest: Guest) -> None:
        guest.fake.ha_state = "started"
        await self._dc.pause(self._delay / 2)
        if not guest.running:
            log = ["task started by HA resource agent"]
            await self._dc.tasks.ended(await self.hands[guest.kind].start(guest, LRM, log))
        if not guest.running:
            guest.fake.ha_state = "error"

    async def _status(self, _v: Mapping[str, Any], user: str) -> list[dict[str, Any]]:
        self._dc.pve.require(user, "/", "Sys.Audit")
        quorate = self._dc.pve.quorate
        quorum = {"id": "quorum", "type": "quorum", "quorate": int(quorate), "status": "OK" if quorate else "No quorum"}
        fencing = {"id": "fencing", "type": "fencing", "armed-state": "disarmed" if self._disarmed else "armed"}
        if self._disarmed:
            fencing["resource_mode"] = self._disarmed
        managed = [guest for guest in self._dc.guests.values() if guest.fake.ha_state is not None]
        return [quorum, fencing, *map(_service, managed)]

    async def _resource(self, v: Mapping[str, Any], _user: str) -> dict[str, Any]:
        for guest in self._dc.guests.values():
            if guest.fake.ha_state is not None and v["sid"] in {_sid(guest), str(guest.vmid)}:
                return {"sid": _sid(guest), "type": SIDS[guest.kind], "state": guest.wanted, "digest": "0" * 40}
        raise PveError(500, f"no such resource '{v['sid']}'")


def _sid(guest: Guest) -> str:
    return f"{SIDS[guest.kind]}:{guest.vmid}"


def _service(guest: Guest) -> dict[str, Any]:
    state = guest.fake.ha_state
    shown = "ignore" if guest.ha_ignored else state
    return {
        "id": f"service:{_sid(guest)}",
        "sid": _sid(guest),
        "type": "service",
        "node": guest.fake.node,
        "crm_state": state,
        "request_state": guest.wanted,
        "state": shown,
        "status": f"{_sid(guest)} ({guest.fake.node}, {shown})",
    }
