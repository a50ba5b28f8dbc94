"""The calls of Proxmox VE's API that the adapter makes, with types.

Paths, parameters and answers: the API viewer, https://pve.proxmox.com/pve-docs/api-viewer/.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from providers.core.errors import CommandFailed
from providers.core.lanes import Lane, Lanes
from providers.proxmox import guests, tasks
from providers.proxmox.endpoint import ANSWER_SECONDS, Method
from providers.proxmox.guests import LXC, QEMU, Config, Guest, Rights
from providers.proxmox.session import Session, Unanswered
from providers.proxmox.tasks import Task

AGENT_SECONDS = 20.0
"""A call that asks an agent may take as long as Proxmox VE waits for it: 3 s for the ping before it, 10 s for most."""
VERBS = {"stop": Lane.CUT, "shutdown": Lane.ASK, "start": Lane.START, "resume": Lane.START, "suspend": Lane.SAVE}
"""What a guest can be told to do, each in its lane."""
PRESS = {"command": "system_powerdown"}
LOG_LINES = 200
TAKEN = "already exists"
"""Of a number that is asked for and not free (pve-manager, `PVE::API2::Cluster`, nextid)."""
DISARMED = ("disarming", "disarmed")


class Api:
    """Typed calls, each in its lane at its node: neither guests whose agents hang hold up others, nor a node that is
    away, for which the one that we ask waits up to 30 s each time."""

    def __init__(self, session: Session, lanes: Lanes) -> None:
        self._session, self._lanes = session, lanes
        self._reading: asyncio.Task[list[Guest]] | None = None

    @property
    def user(self) -> str:
        """Who we are to Proxmox VE, as its tasks have it."""
        return self._session.user

    async def version(self) -> str:
        """As in "9.0.10"."""
        return str((await self._get("version"))["version"])

    async def guests(self) -> list[Guest]:
        """Every guest that the account may see; callers at the same time share one call."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._guests())
        return await asyncio.shield(self._reading)

    async def _guests(self) -> list[Guest]:
        rows = await self._get("cluster/resources", type="vm")
        return [guests.guest(row) for row in rows if row["type"] in (QEMU, LXC)]

    async def is_free(self, vm_id: str) -> bool:
        """Whether no node has a guest of this number, whatever the account may see."""
        try:
            await self._get("cluster/nextid", vmid=vm_id)
        except CommandFailed as error:
            if TAKEN not in error.message:
                raise
            return False
        return True

    async def nodes(self) -> frozenset[str]:
        """The names of the cluster's nodes, also of those that are away."""
        return frozenset(str(row["node"]) for row in await self._get("nodes"))

    async def pids(self, node: str, kind: str) -> Mapping[str, int]:
        """By number, the processes of the guests of one kind that run on a node: QEMU's, or a container's init."""
        rows = await self._get(f"nodes/{node}/{kind}")
        return {str(row["vmid"]): int(row["pid"]) for row in rows if row.get("pid")}

    async def ha_ignores(self) -> bool:
        """Whether HA is disarmed, or is just about to be, and leaves alone what it manages (Proxmox VE 9.2).

        The API acts by itself from the first of these states on (pve-ha-manager, `$service_check_ha_state`).
        """
        entries = await self._get("cluster/ha/status/current")
        fencing = [entry for entry in entries if entry["type"] == "fencing"]
        return any(one.get("armed-state") in DISARMED and one.get("resource_mode") == "ignore" for one in fencing)

    async def config(self, guest: Guest) -> Config:
        """Its configuration as it counts now, without what is to count from its next start on."""
        return guests.config(await self._get(f"{guest.path}/config", current=1))

    async def status(self, guest: Guest, *, to_cut: bool = False) -> Mapping[str, Any]:
        """Its state as its node has it; cluster/resources shows the same up to 10 s later. `to_cut`: before its power
        is cut."""
        lane = Lane.CUT if to_cut else Lane.READ
        return dict(await self._call("GET", f"{guest.path}/status/current", lane=lane))

    async def ping(self, guest: Guest) -> bool:
        """Whether its guest agent answers.

        Raises:
            CommandFailed: the account may not ask that.
        """
        try:
            await self._ask_agent(guest, "POST", "ping")
        except Unanswered:
            return False
        except CommandFailed as error:
            if error.metadata.get("status") == "403":
                raise
            return False
        return True

    async def act(self, guest: Guest, verb: str, params: Mapping[str, Any] | None = None) -> Task:
        """Begin to start, stop, shut down, suspend or resume it."""
        return tasks.decode(await self._call("POST", f"{guest.path}/status/{verb}", params, VERBS[verb]))

    async def rights(self) -> Rights:
        """What the account may do."""
        return Rights(await self._get("access/permissions"))

    async def press(self, guest: Guest) -> None:
        """Press its power button, also if it has an agent. The monitor's answer is empty if that worked.

        Raises:
            CommandFailed: the answer is not empty.
        """
        answer = str(await self._call("POST", f"{guest.path}/monitor", PRESS, Lane.ASK))
        if said := answer.strip():
            raise CommandFailed(f"QEMU did not press the power button ({said}); Proxmox VE's operator looks into it.")

    async def snapshot(self, guest: Guest, params: Mapping[str, Any]) -> Task:
        """Begin a snapshot."""
        return tasks.decode(await self._call("POST", f"{guest.path}/snapshot", params, Lane.PROGRAM))

    async def execute(self, guest: Guest, command: Sequence[str]) -> int:
        """Start a program in the guest; its process id there."""
        answer = await self._ask_agent(guest, "POST", "exec", {"command": [_octets(word) for word in command]})
        return int(answer["pid"])

    async def execution(self, guest: Guest, pid: int) -> Mapping[str, Any]:
        """The state of a program (`exec-status`)."""
        return dict(await self._ask_agent(guest, "GET", "exec-status", {"pid": pid}))

    async def interfaces(self, guest: Guest) -> Any:
        """Its network interfaces, as its guest agent tells them (`result`), or its node of a container."""
        if guest.kind == QEMU:
            return (await self._ask_agent(guest, "GET", "network-get-interfaces"))["result"]
        return await self._get(f"{guest.path}/interfaces")

    async def tasks(self, node: str, *, to_cut: bool = False, **which: Any) -> list[Task]:
        """Tasks that ran or run on a node, newest first; only those that the account may see."""
        rows = await self._call(
            "GET", f"nodes/{node}/tasks", {"source": "all", **which}, Lane.CUT if to_cut else Lane.READ
        )
        return [tasks.listed(row) for row in rows]

    async def task(self, task: Task) -> Mapping[str, Any]:
        """The state of one task."""
        return dict(await self._get(f"{task.path}/status"))

    async def log(self, task: Task) -> list[str]:
        """The first lines of a task's log."""
        return [str(line["t"]) for line in await self._get(f"{task.path}/log", limit=LOG_LINES)]

    async def abort(self, task: Task, *, to_cut: bool = False) -> None:
        """End a task; answered when it has ended, which takes a second or more."""
        await self._call("DELETE", task.path, lane=Lane.CUT if to_cut else Lane.READ)

    async def _ask_agent(self, guest: Guest, method: Method, what: str, params: Mapping[str, Any] | None = None) -> Any:
        return await self._call(method, f"{guest.path}/agent/{what}", params, Lane.PROGRAM, AGENT_SECONDS)

    async def _get(self, path: str, **params: Any) -> Any:
        return await self._call("GET", path, params)

    async def _call(
        self,
        method: Method,
        path: str,
        params: Mapping[str, Any] | None = None,
        lane: Lane = Lane.READ,
        timeout: float = ANSWER_SECONDS,
    ) -> Any:
        async with self._lanes.place(lane, _node(path)):
            return await self._session.call(method, path, params, timeout)


def _node(path: str) -> str:
    """The node that a call is for; "" if every node answers it by itself."""
    first, _, rest = path.partition("/")
    return rest.partition("/")[0] if first == "nodes" else ""


def _octets(text: str) -> str:
    """UTF-8 as Proxmox VE hands it on unharmed: it writes each character to the agent as one byte, and refuses those
    beyond Latin-1 (qemu-server, PVE::QMPClient: `to_json` without `utf8`, then IO::Multiplex's `syswrite`)."""
    return text.encode().decode("latin-1")
