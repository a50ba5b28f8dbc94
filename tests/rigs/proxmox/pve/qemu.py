"""Power of QEMU guests: PVE::API2::Qemu and PVE::QemuServer (_do_vm_stop, vm_start, vm_reset, vm_reboot).

What fakepve lacks: that stop and shutdown of a guest that is off succeed, `overrule-shutdown`, the agent, pause,
`down=` of the startup order, force that comes when the command fails, locks found in the worker, and that a guest goes
down although its task was aborted.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from fakepve.model import PveError, TaskError

from tests.rigs.proxmox.pve.datacenter import Datacenter
from tests.rigs.proxmox.pve.guests import Guest
from tests.rigs.proxmox.pve.ha import Ha
from tests.rigs.proxmox.pve.tasks import Routes

ROOT = "root@pam"
PING = 3  # seconds for an answer (qga_check_running)
UNLIMITED = 600  # seconds for guest-shutdown when none are given (PVE::QMPClient)
SIGTERM = 10  # seconds for QEMU to end after it


class Qemu:
    """The calls that change a QEMU guest's power."""

    def __init__(self, datacenter: Datacenter, ha: Ha) -> None:
        self._dc = datacenter
        self._tasks = datacenter.tasks
        self._ha = ha
        datacenter.gone.append(self._starts_again)

    def routes(self) -> Routes:
        """The calls that are answered here."""
        status = "/nodes/{node}/qemu/{vmid}/status/"
        actions = {
            "start": self._start,
            "stop": self._stop,
            "shutdown": self._shutdown,
            "reboot": self._reboot,
            "reset": self._reset,
        }
        routes: Routes = {("POST", status + name): handler for name, handler in actions.items()}
        return routes | {("POST", "/nodes/{node}/qemu/{vmid}/monitor"): self._monitor}

    async def _start(self, v: Mapping[str, Any], user: str) -> str:
        guest = self._asked("start", v)
        self._dc.pve.need_quorum()  # of all that change power, only this looks (PVE::Cluster::check_cfs_quorum)
        if guest.ha_managed:
            return await self._ha.request_start(guest, user)
        return await self.start(guest, user)

    async def _stop(self, v: Mapping[str, Any], user: str) -> str:
        guest = self._asked("stop", v)
        if guest.ha_managed:
            if v.get("overrule-shutdown"):
                reason = {"overrule-shutdown": "Not applicable for HA resources."}
                raise PveError(400, "Parameter verification failed.", reason)
            return await self._ha.request_stop(guest, user, 0)
        self._dc.refuse_early(guest)
        return await self.stop(guest, user, timeout=v.get("timeout"), overrule=bool(v.get("overrule-shutdown")))

    async def _shutdown(self, v: Mapping[str, Any], user: str) -> str:
        guest = self._asked("shutdown", v)
        if guest.paused and not v.get("forceStop"):
            raise PveError(500, "VM is paused - cannot shutdown")
        if guest.ha_managed:
            return await self._ha.request_stop(guest, user, v.get("timeout", 60))
        self._dc.refuse_early(guest)
        return await self.shutdown(guest, user, timeout=v.get("timeout"), force=bool(v.get("forceStop")))

    async def _reboot(self, v: Mapping[str, Any], user: str) -> str:
        guest = self._asked("reboot", v)
        if guest.paused:
            raise PveError(500, "VM is paused - cannot shutdown")
        self._need_running(guest)
        log = list[str]()

        async def body() -> None:
            guest.reboots = True  # qmeventd starts it when it is gone, in a task of its own
            try:
                await self._take_down(guest, log, timeout=v.get("timeout"), shutdown=True, force=False)
            except (TaskError, asyncio.CancelledError):
                guest.reboots = False
                raise

        return await self._tasks.start(guest.fake.node, "qmreboot", guest.vmid, user, body, vm=guest.fake, log=log)

    async def _reset(self, v: Mapping[str, Any], user: str) -> str:
        guest = self._asked("reset", v)
        self._need_running(guest)

        async def body() -> None:
            self._dc.refuse_locked(guest, TaskError)
            guest.goes_on()

        return await self._tasks.start(guest.fake.node, "qmreset", guest.vmid, user, body, vm=guest.fake)

    async def _monitor(self, v: Mapping[str, Any], user: str) -> str:
        """HMP. Its errors are part of what it says (PVE::API2::Qemu, PVE::API2::Qemu::HMPPerms)."""
        guest, command = self._dc.of("qemu", v), v["command"]
        if command != "system_powerdown":
            raise PveError(500, f"the rig knows no command '{command}'")
        self._dc.pve.require(user, "/", "Sys.Modify")
        if not guest.running:
            return f"ERROR: VM {guest.vmid} not running"
        guest.asked.append((time.time(), "powerdown", {}))
        guest.hear("acpi")
        return ""

    # Tasks, also those that HA and people at the console start

    async def start(self, guest: Guest, user: str, log: list[str] | None = None) -> str:
        """qmstart."""

        async def body() -> None:
            if guest.fake.template:
                raise TaskError("you can't start a vm if it's a template")
            hibernated = guest.fake.lock == "suspended"
            if not hibernated:
                self._dc.refuse_locked(guest, TaskError)
            if guest.running:
                raise TaskError(f"VM {guest.vmid} already running")
            await self._dc.pause(guest.behaviour["start_secs"])
            if guest.behaviour["start_error"]:
                raise TaskError(guest.behaviour["start_error"])
            if hibernated:
                guest.set_lock(None)
                guest.fake.config.pop("vmstate", None)
            guest.fake.apply_pending()
            guest.goes_on()

        return await self._tasks.start(guest.fake.node, "qmstart", guest.vmid, user, body, vm=guest.fake, log=log or [])

    async def stop(
        self,
        guest: Guest,
        user: str,
        log: list[str] | None = None,
        *,
        timeout: int | None = None,
        overrule: bool = False,
        cause: str = "stop",
    ) -> str:
        """qmstop."""
        log = [] if log is None else log

        async def body() -> None:
            if overrule and (ended := await self._tasks.abort_of_guest("qmshutdown", guest.vmid, user)):
                log.append(f"overruled qmshutdown tasks: {', '.join(ended)}")
            async with self._tasks.config_lock(guest.fake, log):
                await self._take_down(guest, log, timeout=timeout, shutdown=False, force=True, cause=cause)

        return await self._tasks.start(guest.fake.node, "qmstop", guest.vmid, user, body, log=log)

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
        """qmshutdown. A paused guest is not asked: what it would hear when it goes on is a power button."""
        log = [] if log is None else log
        asks = not guest.paused

        async def body() -> None:
            await self._take_down(guest, log, timeout=timeout, shutdown=asks, force=force, cause=cause)

        return await self._tasks.start(guest.fake.node, "qmshutdown", guest.vmid, user, body, vm=guest.fake, log=log)

    # PVE::QemuServer

    async def _take_down(
        self,
        guest: Guest,
        log: list[str],
        *,
        timeout: int | None,
        shutdown: bool,
        force: bool,
        cause: str = "pve-forced",
    ) -> None:
        """_do_vm_stop, from its first line to its last."""
        if not guest.running:
            return
        self._dc.refuse_locked(guest, TaskError)
        if timeout is None and shutdown:
            timeout = _down(guest.fake.config.get("startup", ""))
        said = True
        if shutdown:
            said = await self._ask(guest, log, timeout)
        else:
            guest.quit(cause)
        if said and await self._is_gone(guest, 60 if timeout is None else timeout):
            return
        what = "VM still running" if said else "VM quit/powerdown failed"
        if not force:
            raise TaskError("VM quit/powerdown failed - got timeout" if said else what)
        log.append(f"{what} - terminating now with SIGTERM")
        guest.quit(cause)
        if not await self._is_gone(guest, SIGTERM):
            log.append("VM still running - terminating now with SIGKILL")
            guest.goes_off(cause)
            await self._dc.pause(1)

    async def _ask(self, guest: Guest, log: list[str], timeout: int | None) -> bool:
        """By the agent if the config has one, else by ACPI; whether that command succeeded.

        Since qemu-server 8.3.4 (03614a89) an agent that does not answer a ping is passed over. Before, and when it
        answers pings only, guest-shutdown uses up the whole time.
        """
        if not guest.agent_enabled:
            guest.hear("acpi")
            return True
        if self._dc.release >= 9 and not guest.agent_pings:
            await self._dc.pause(PING)
            failed = f"VM {guest.vmid} qga command 'guest-ping' failed - got timeout"
            log.append(f"QEMU Guest Agent is not running - {failed}")
            guest.hear("acpi")
            return True
        if guest.agent_hears:
            guest.hear("agent")
        return await self._waits_for_agent(guest, UNLIMITED if timeout is None else timeout)

    async def _waits_for_agent(self, guest: Guest, timeout: int) -> bool:
        """guest-shutdown has no answer but the end of its connection, and so lasts until the guest is gone.

        A worker that is aborted dies there with "received interrupt", which the `eval` around the command takes for its
        failure (_do_vm_stop): with force, QEMU is killed.
        """
        try:
            return await self._is_gone(guest, timeout)
        except asyncio.CancelledError:
            worker = asyncio.current_task()
            assert worker
            worker.uncancel()
            return False

    async def _is_gone(self, guest: Guest, timeout: int) -> bool:
        """Whether the guest goes off in time.

        PVE looks once a second, and not again at the end: a guest that goes off in the last second counts as one that
        still runs.
        """
        began = time.monotonic()
        scale = self._dc.pve.time_scale
        try:
            async with asyncio.timeout(max(0, timeout - 1) * scale):
                await guest.gone.wait()
        except TimeoutError:
            await asyncio.sleep(began + timeout * scale - time.monotonic())
            return False
        passed = (time.monotonic() - began) / scale
        await self._dc.pause(-passed % 1)
        return timeout > 0

    def _starts_again(self, guest: Guest) -> None:
        """`qm cleanup`, which qmeventd runs."""
        if guest.reboots:
            guest.reboots = False
            self._dc.spawn(self.start(guest, ROOT))

    def _asked(self, what: str, v: Mapping[str, Any]) -> Guest:
        guest = self._dc.of("qemu", v)
        guest.asked.append((time.time(), what, {key: v[key] for key in v if key not in {"node", "vmid"}}))
        return guest

    def _need_running(self, guest: Guest) -> None:
        if not guest.running:
            raise PveError(500, f"{guest.title} not running")


def _down(startup: str) -> int | None:
    """The `down=` of a startup order, in seconds; 0 counts as none."""
    parts = dict(part.partition("=")[::2] for part in startup.split(","))
    return int(parts.get("down", 0)) or None
