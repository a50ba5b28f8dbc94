"""A vCenter, or an ESXi host, on loopback, with guests that behave as they are told: shutdown times, tools, faults.

    with VCenter({"web": {"shutdown_time": "2s"}, "node": {"count": 200}}) as vcenter:
        ...  # a client of vcenter.url, as vcenter.username with vcenter.password
        vcenter.set("web", ignores=True)
        assert vcenter.show("web")["asked_at"]

The program is sim/, on govmomi's simulator; sim/vcenter/behaviour.go lists what VMs can do. All calls block.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.rigs.go import install
from tests.rigs.simulation import Simulation

SIM = Path(__file__).parent / "sim"
PACKAGE = "vmpower/tests/rigs/vsphere/sim"

Behaviour = Mapping[str, object]


class Thumbprint(NamedTuple):
    """A certificate's, in pairs of hexadecimal digits with colons between them."""

    sha256: str
    sha1: str


class Connections(NamedTuple):
    """TCP connections of clients: those that are open, all that ever were, and the most that were open at once."""

    open: int
    opened: int
    peak: int


def program() -> Path:
    """The program; the first call builds it: a minute or two."""
    sources = sorted(path for path in SIM.rglob("*") if path.is_file() and not path.name.endswith("_test.go"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    return install(f"vsphere-{digest}", [PACKAGE, f"{PACKAGE}/recorder"], module=SIM) / "sim"


class VCenter(Simulation):
    """A vCenter and its guests; with `esx`, a host that stands alone. `folder` has all it ever writes.

    `vms` are behaviours by the names of their VMs; with `count`, there are `name-0001` and on. A behaviour's own
    `name` is the VM's, where that is to be another: calls here know a VM by its key. `latency` is in seconds and is
    added to every call, half on its way there and half on its way back.

    `credentials` is a folder with the files `username` and `password`, as one would mount them. `ca` is a file with
    the certificate that signed vCenter's, whose own is pinned by `thumbprint`.
    """

    def __init__(self, vms: Mapping[str, Behaviour], *, esx: bool = False, latency: float = 0.0) -> None:
        sim = program()  # first of all: where it cannot be built, nothing is left behind
        self.username = "root" if esx else "vmpower@vsphere.local"
        self.password = "Geheim-1!"
        super().__init__()
        self.credentials = self.folder / "credentials"
        self.credentials.mkdir()
        self._write_credentials()
        config = {"vms": vms, "esx": esx, "latency": latency, "username": self.username, "password": self.password}
        self.prepare([str(sim)], config)

    def start(self) -> None:
        """Start it; after `stop`, it is back on the same port."""
        if self.process.runs():
            self.tell("come_back", {})
            return
        ready = self.launch()
        self.url: str = ready["url"]
        self.ca = Path(ready["ca"])
        self.thumbprint = Thumbprint(ready["sha256"], ready["sha1"])

    # The guests

    def show(self, name: str) -> dict[str, Any]:
        """What a VM is, and what happened to it; times are those of `time.time()`.

        moid, instance_uuid, power (poweredOn, ...), tools (guestToolsRunning, ...), asked_at (method and time of each
        call on it, whatever became of it), on_at, off_at, off_cause (guest, power_off, hand, crash), snapshots,
        processes (pid, program, argv as the program received it, command_line, owner, started_at, ended_at, exit_code)
        and files (of the guest's own, by their paths in its folder).
        """
        shown: dict[str, Any] = self._act("show", name)
        return shown

    def set(self, key: str, **behaviour: object) -> None:
        """Change how a VM behaves from now on."""
        self._act("set", key, behaviour)

    def power(self, names: str | Sequence[str], how: str) -> None:
        """A colleague's hand: `on`, `off`, `suspend`; or fate's: `crash` of its process, which takes its power, and
        `panic` of its guest, which does not. Of several VMs it takes care at once."""
        self.tell("power", {"vms": [names] if isinstance(names, str) else names, "with": how})

    def add(self, key: str, **behaviour: object) -> None:
        """One more VM, or many (`count`)."""
        self.tell("add", {key: behaviour})

    def remove(self, name: str) -> None:
        """Take a VM out of the inventory, also one that runs."""
        self._act("remove", name)

    def rename(self, name: str, to: str) -> None:
        """Give a VM another name. Here it is known by the old one."""
        self._act("rename", name, to)

    def move(self, name: str, folder: str) -> None:
        """Put a VM into another folder of its datacenter, a path like `a/b`; folders that are missing are made."""
        self._act("move", name, folder)

    # vCenter itself

    def forget_tasks(self) -> None:
        """List no task any more, as ten minutes after the last one. Clients that follow them are not told."""
        self.tell("forget", {})

    def expire_sessions(self) -> None:
        """End all sessions; a client that waits for updates is told that it is not authenticated."""
        self.tell("expire", {})

    def deny(self, **privileges: Sequence[str]) -> None:
        """By VM, the privileges that the account does not have, if it asks which; calls that need them go on."""
        self.tell("deny", privileges)

    def rotate_password(self, new: str) -> None:
        """From now on logins need the new password, which is also in `credentials`. Sessions go on."""
        self.tell("rotate", new)
        self.password = new
        self._write_credentials()

    def outage(self, seconds: float, *, keep_sessions: bool, busy: bool = False) -> None:
        """Cut all connections and be away for so long, from now on; this returns at once. Guests live on.

        A vCenter that is `busy` takes connections and answers each call with 503, as the proxy before one that is
        coming up.
        """
        self.tell("go_away", {"seconds": seconds, "keep_sessions": keep_sessions, "busy": busy})

    def stop(self, *, keep_sessions: bool = True, busy: bool = False) -> None:
        """The same until `start`."""
        self.outage(0, keep_sessions=keep_sessions, busy=busy)

    def faults(self, **methods: Sequence[str]) -> None:
        """What becomes of the next calls of methods, whatever they are called on: one entry for each call.

        `ok`, the name of a fault's type, `http:503` (or another status), `cut` (it does not reach vCenter), `lost`
        (its answer does not come back) or `hang` (it is not answered for as long as its client waits). The behaviour
        `faults` is the same for calls on one VM; there, `task:` before a fault's name lets the task fail and not the
        call.
        """
        self.tell("faults", methods)

    # What clients did

    def calls(self) -> dict[str, int]:
        """How many times each SOAP method was called, also where that failed."""
        calls: dict[str, int] = self.tell("calls")
        return calls

    def reset_calls(self) -> dict[str, int]:
        """The same, and begin to count anew."""
        calls: dict[str, int] = self.tell("reset_calls")
        return calls

    def connections(self) -> Connections:
        """Those that are open now, were opened in all, and were open at once."""
        return Connections(*self.tell("connections"))

    # Inside

    def _write_credentials(self) -> None:
        (self.credentials / "username").write_text(self.username)
        (self.credentials / "password").write_text(self.password)

    def _act(self, action: str, vm: str, arguments: object = None) -> Any:
        return self.tell(action, {"vm": vm} if arguments is None else {"vm": vm, "with": arguments})


if __name__ == "__main__":
    print(program())
