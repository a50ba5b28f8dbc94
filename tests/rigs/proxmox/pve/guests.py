"""Guests: what they do by themselves, whatever PVE knows of it. Seconds are PVE's; times are those of `time.time()`."""

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

PIDS = itertools.count(20001)
Later = Callable[[float, Callable[[], None]], asyncio.TimerHandle]
"""Calls a function when so many of PVE's seconds have passed."""

OWN = {
    "agent": "off",  # or `answers`; `absent`, `hangs` (PVE's ping is in vain); `deaf` (pings only)
    "acpi": True,
    "ignores": False,  # or the signal that it ignores: `agent`, `acpi`
    "shutdown_secs": 0,
    "start_secs": 0,
    "stop_secs": 0,
    "snapshot_secs": 0,
    "start_error": None,
    "agent_output": 16 << 20,  # bytes that it keeps of each of a program's outputs (qga's GUEST_EXEC_MAX_OUTPUT)
}
"""How guests behave, and how they do when nothing is said."""

DEAF = ("paused", "prelaunch", "suspended")  # PVE::QemuServer::vm_is_paused


def config_of(behaviour: Mapping[str, Any]) -> dict[str, Any]:
    """What the guest's config in PVE says of its behaviour; None: nothing."""
    config = dict(behaviour.get("config", {}))
    if "agent" in behaviour:
        config["agent"] = None if behaviour["agent"] == "off" else "1"
    if "acpi" in behaviour:
        config["acpi"] = None if behaviour["acpi"] else 0
    for flag in {"protection", "template"} & behaviour.keys():
        config[flag] = 1 if behaviour[flag] else None
    if behaviour.get("hibernated"):
        config["vmstate"] = "local-lvm:vm-state-suspend"
    return config | {key: behaviour[key] for key in {"startup", "tags"} & behaviour.keys()}


class Guest:
    """A QEMU guest or a container, with what happened to it. `fake` is what fakepve knows of it."""

    def __init__(self, key: str, fake: Any, later: Later, gone: Callable[["Guest"], None]) -> None:
        self.key = key
        self.fake = fake
        self.behaviour: dict[str, Any] = dict(OWN)
        self.on_at: float | None = None
        self.off_at: float | None = None
        self.off_cause: str | None = None
        self.ends = list[dict[str, Any]]()  # of all its runs: on_at, off_at, off_cause
        self.asked = list[tuple[float, str, Mapping[str, Any]]]()  # what clients asked of PVE
        self.heard = list[tuple[float, str]]()  # the signals that reached it
        self.execs = list[dict[str, Any]]()
        self.gone = asyncio.Event()
        self.reboots = False  # PVE's reboot request: who sees it go off starts it again
        self.wanted = "started"  # what the HA manager's config says
        self.ha_ignored = False  # HA is disarmed, and leaves it alone
        self.pid: int | None = None  # QEMU's, or that of a container's init
        self._later = later
        self._told = gone
        self._going: asyncio.TimerHandle | None = None
        self._quitting: asyncio.TimerHandle | None = None
        self._due = False

    @property
    def kind(self) -> str:
        """`qemu` or `lxc`."""
        return str(self.fake.guest.split("/")[0])

    @property
    def vmid(self) -> int:
        return int(self.fake.vmid)

    @property
    def title(self) -> str:
        """As PVE's messages call it: VM 100, CT 101."""
        return f"{'VM' if self.kind == 'qemu' else 'CT'} {self.vmid}"

    @property
    def running(self) -> bool:
        return bool(self.fake.status == "running")

    @property
    def paused(self) -> bool:
        return self.running and self.fake.qmpstatus in DEAF

    @property
    def ha_managed(self) -> bool:
        """One that HA ignores is not managed (PVE::HA::Config, service_check_ha_state)."""
        return self.fake.ha_state not in {None, "ignored"} and not self.ha_ignored

    @property
    def agent_enabled(self) -> bool:
        """Whether its config has it: `1`, or `enabled=1` among others."""
        return bool({"1", "enabled=1"} & set(str(self.fake.config.get("agent")).split(",")))

    @property
    def agent_hears(self) -> bool:
        """Whether the agent takes a command."""
        return self.running and not self.paused and self.behaviour["agent"] == "answers"

    @property
    def agent_pings(self) -> bool:
        return self.running and not self.paused and self.behaviour["agent"] in {"answers", "deaf"}

    def set(self, behaviour: Mapping[str, Any]) -> None:
        """Change how it behaves and what PVE's config says of it."""
        self.behaviour |= {key: behaviour[key] for key in OWN.keys() & behaviour.keys()}
        for key, value in config_of(behaviour).items():
            if value is None:
                self.fake.config.pop(key, None)
            else:
                self.fake.config[key] = value
        if "template" in behaviour and self.kind == "qemu":
            self.fake.template = behaviour["template"]
        if "ha" in behaviour:
            self.fake.ha_state = behaviour["ha"]
            self.wanted = "stopped" if behaviour["ha"] == "stopped" else "started"
        if behaviour.get("hibernated"):
            self.set_lock("suspended")
        if "lock" in behaviour:
            self.set_lock(behaviour["lock"])
        if "power" in behaviour:
            self._power(str(behaviour["power"]))

    def set_lock(self, lock: str | None) -> None:
        """The `lock:` of its config; None takes it out."""
        self.fake.lock = lock
        self.fake.config.pop("lock", None)
        if lock:
            self.fake.config["lock"] = lock

    def hear(self, signal: str) -> None:
        """A request reaches it. Once it goes down, no task that ends holds it back."""
        self.heard.append((time.time(), signal))
        deaf = self.behaviour["ignores"] in {True, signal} or (signal == "acpi" and not self.behaviour["acpi"])
        if self.running and not deaf and self._going is None:
            self._going = self._later(self.behaviour["shutdown_secs"], self._is_down)

    def quit(self, cause: str) -> None:
        """QEMU is told to end, or lxc-stop to kill."""
        self._quitting = self._later(self.behaviour["stop_secs"], lambda: self.goes_off(cause))

    def goes_on(self) -> None:
        """It runs."""
        self.fake.status = self.fake.qmpstatus = "running"
        self.on_at = time.time()
        self.gets_process()
        self._going, self._due = None, False
        self.gone.clear()

    def gets_process(self) -> None:
        """It goes on in a new process, as by a start or by a migration; its uptime is that of the process."""
        self.fake.started_at = time.time()
        self.pid = next(PIDS)

    def goes_off(self, cause: str) -> None:
        """It is off: `guest`, `pve-forced`, `stop`, `ha` or `crash`."""
        if not self.running:
            return
        for timer in (self._going, self._quitting):
            if timer:
                timer.cancel()
        self.fake.status = self.fake.qmpstatus = "stopped"
        self.fake.started_at = self.pid = None
        self.off_at, self.off_cause = time.time(), cause
        self.ends.append({"on_at": self.on_at, "off_at": self.off_at, "off_cause": cause})
        self.gone.set()
        self._told(self)

    def pause(self, state: str) -> None:
        """Its processors stand still: `paused`, or another of QEMU's run states (PVE shows them as qmpstatus)."""
        self.fake.qmpstatus = state

    def resume(self) -> None:
        """It goes on, and hears what was said meanwhile."""
        self.fake.qmpstatus = "running"
        if self._due:
            self.goes_off("guest")

    def _is_down(self) -> None:
        if self.paused:
            self._due = True
        else:
            self.goes_off("guest")

    def _power(self, state: str) -> None:
        if state == "off":
            self.fake.status = self.fake.qmpstatus = "stopped"
            self.gone.set()
            return
        self.goes_on()
        self.fake.qmpstatus = "running" if state == "on" else state
