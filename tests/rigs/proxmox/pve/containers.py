"""Power of containers: PVE::API2::LXC::Status and PVE::LXC::vm_stop.

What differs from QEMU guests: HTTP errors for those that are off, 60 s whatever their startup order says, no word in
the log of those that were forced, and a task that waits twice before it gives one up.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fakepve.model import PveError, TaskError

from tests.rigs.proxmox.pve.datacenter import Datacenter
from tests.rigs.proxmox.pve.guests import Guest
from tests.rigs.proxmox.pve.ha import Ha
from tests.rigs.proxmox.pve.tasks import Killed, Routes

GRACE = 5  # seconds that run_command gives lxc-stop beyond its timeout, and that a worker has to end


class Containers:
    """The calls that change a container's power."""

    def __init__(self, datacenter: Datacenter, ha: Ha) -> None:
        self._dc = datacenter
        self._tasks = datacenter.tasks
        self._ha = ha

    def routes(self) -> Routes:
        """The calls that are answered here."""
        status = "/nodes/{node}/lxc/{vmid}/status/"
        actions = {"start": self._start, "stop": self._stop, "shutdown": self._shutdown, "reboot": self._reboot}
        return {("POST", status + name): handler for name, handler in actions.items()}

    async def _start(self, v: Mapping[str, Any], user: str) -> str:
        guest = self._asked("start", v)
        if guest.running:
            raise PveError(500, f"CT {guest.vmid} already running")
        self._dc.pve.need_quorum()
        if guest.ha_managed:
            return await self._ha.request_start(guest, user)
        return await self.start(guest, user)

    async def _stop(self, v: Mapping[str, Any], user: str) -> str:
        guest = self._running("stop", v)
        overrule = bool(v.get("overrule-shutdown"))
        if guest.ha_managed:
            if overrule:
                reason = {"overrule-shutdown": "Not applicable for HA resources."}
                raise PveError(400, "Parameter verification failed.", reason)
            return await self._ha.request_stop(guest, user, 0)
        self._dc.refuse_early(guest)
        return await self.stop(guest, user, overrule=overrule)

    async def _shutdown(self, v: Mapping[str, Any], user: str) -> str:
        guest = self._running("shutdown", v)
        timeout = v.get("timeout", 60)
        if guest.ha_managed:
            return await self._ha.request_stop(guest, user, timeout)
        self._dc.refuse_early(guest)
        return await self.shutdown(guest, user, timeout=timeout, force=bool(v.get("forceStop")))

    async def _reboot(self, v: Mapping[str, Any], user: str) -> str:
        guest = self._running("reboot", v)
        log = list[str]()

        async def body() -> None:
            await self._take_down(guest, log, v.get("timeout", 60), force=True)
            await self._boot(guest)

        return await self._task(guest, "vzreboot", user, body, log)

    # Tasks, also those that HA starts

    async def start(self, guest: Guest, user: str, log: list[str] | None = None) -> str:
        """vzstart."""

        async def body() -> None:
            if guest.fake.template:
                raise TaskError("you can't start a CT if it's a template")
            self._dc.refuse_locked(guest, TaskError)
            await self._boot(guest)

        return await self._task(guest, "vzstart", user, body, log or [])

    async def stop(
        self, guest: Guest, user: str, log: list[str] | None = None, *, overrule: bool = False, cause: str = "stop"
    ) -> str:
        """vzstop."""
        log = [] if log is None else log

        async def body() -> None:
            if overrule and (ended := await self._tasks.abort_of_guest("vzshutdown", guest.vmid, user)):
                log.append(f"overruled vzshutdown tasks: {', '.join(ended)}")
            async with self._tasks.config_lock(guest.fake, log):
                self._dc.refuse_locked(guest, TaskError)
                await self._dc.pause(guest.behaviour["stop_secs"])
                guest.goes_off(cause)

        return await self._tasks.start(guest.fake.node, "vzstop", guest.vmid, user, body, log=log)

    async def shutdown(
        self,
        guest: Guest,
        user: str,
        log: list[str] | None = None,
        *,
        timeout: int | None,
        force: bool,
        cause: str = "pve-forced",
    ) -> str:
        """vzshutdown."""
        log = [] if log is None else log

        async def body() -> None:
            self._dc.refuse_locked(guest, TaskError)
            await self._take_down(guest, log, timeout or 0, force=force, cause=cause)

        return await self._task(guest, "vzshutdown", user, body, log)

    # PVE::LXC

    async def _boot(self, guest: Guest) -> None:
        await self._dc.pause(guest.behaviour["start_secs"])
        if guest.behaviour["start_error"]:
            raise TaskError(guest.behaviour["start_error"])
        guest.goes_on()

    async def _take_down(
        self, guest: Guest, log: list[str], timeout: int, *, force: bool, cause: str = "pve-forced"
    ) -> None:
        """vm_stop: lxc-stop, and then the container's command socket until it closes."""
        if not guest.running:
            return
        command = f"lxc-stop -n {guest.vmid}{'' if force else ' --nokill'} --timeout {timeout}"
        guest.hear("init")
        try:
            if await self._is_gone(guest, timeout or None):
                return
            if force:
                guest.goes_off(cause)
                return
        except asyncio.CancelledError:
            # The signal ends lxc-stop alone; the worker then reads on, until it is killed and leaves no status.
            log.append(f"command '{command}' failed: received interrupt")
            if await self._is_gone(guest, GRACE):
                return
            raise Killed from None
        log.append(f"command '{command}' failed: exit code 1")
        if not await self._is_gone(guest, timeout + GRACE):
            raise TaskError("container did not stop")

    async def _is_gone(self, guest: Guest, timeout: float | None) -> bool:
        try:
            async with asyncio.timeout(timeout and timeout * self._dc.pve.time_scale):
                await guest.gone.wait()
        except TimeoutError:
            return False
        return True

    async def _task(
        self, guest: Guest, kind: str, user: str, body: Callable[[], Awaitable[None]], log: list[str]
    ) -> str:
        return await self._tasks.start(guest.fake.node, kind, guest.vmid, user, body, vm=guest.fake, log=log)

    def _asked(self, what: str, v: Mapping[str, Any]) -> Guest:
        guest = self._dc.of("lxc", v)
        guest.asked.append((time.time(), what, {key: v[key] for key in v if key not in {"node", "vmid"}}))
        return guest

    def _running(self, what: str, v: Mapping[str, Any]) -> Guest:
        guest = self._asked(what, v)
        if not guest.running:
            raise PveError(500, f"CT {guest.vmid} not running")
        return guest
