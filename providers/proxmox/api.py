"""The calls of Proxmox VE's API that the adapter makes, with types.

Paths, parameters and answers: the API viewer, https://pve.proxmox.com/pve-docs/api-viewer/.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from providers.core.errors import CommandFailed
from providers.proxmox import guests, tasks
from providers.proxmox.endpoint import ANSWER_SECONDS, Method
from providers.proxmox.guests import LXC, QEMU, Config, Guest
from providers.proxmox.session import Session, Unanswered
from providers.proxmox.tasks import Task

AGENT_SECONDS = 20.0
"""A call that asks an agent may take as long as Proxmox VE waits for it: 3 s for the ping before it, 10 s for most."""
AT_ONCE = 8
"""Calls of one kind to one node at the same time."""
AGENTS, CUTS = "agents", "cuts"
"""Kinds of calls: to guest agents, which may hang, and to cut power, which waits behind nothing else. "" are all
others."""
LOG_LINES = 200


class Api:
    """Typed calls. Their number is bounded for each kind at each node: neither guests whose agents hang hold up others,
    nor a node that is away, for which the one that we ask waits up to 30 s each time."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._bounds = defaultdict[tuple[str, str], asyncio.Semaphore](lambda: asyncio.Semaphore(AT_ONCE))
        self._reading: asyncio.Task[list[Guest]] | None = None

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

    async def config(self, guest: Guest) -> Config:
        """Its configuration as it is now."""
        return guests.config(await self._get(f"{guest.path}/config"))

    async def status(self, guest: Guest) -> Mapping[str, Any]:
        """Its state as its node has it; cluster/resources shows the same up to 10 s later."""
        return dict(await self._get(f"{guest.path}/status/current"))

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
        """Begin to start, stop, shut down or resume it."""
        kind = CUTS if verb == "stop" else ""
        return tasks.decode(await self._call("POST", f"{guest.path}/status/{verb}", params, kind))

    async def may_press(self) -> bool:
        """Whether the account may press power buttons outside of Proxmox VE's tasks, which takes Sys.Modify on /."""
        granted = await self._call("GET", "access/permissions", {"path": "/"})
        return "Sys.Modify" in granted.get("/", {})

    async def press(self, guest: Guest) -> None:
        """Press its power button, also if it has an agent. The monitor's answer is empty if that worked.

        Raises:
            CommandFailed: the answer is not empty.
        """
        answer = str(await self._call("POST", f"{guest.path}/monitor", {"command": "system_powerdown"}))
        if said := answer.strip():
            raise CommandFailed(f"QEMU did not press the power button ({said}); Proxmox VE's operator looks into it.")

    async def snapshot(self, guest: Guest, params: Mapping[str, Any]) -> Task:
        """Begin a snapshot."""
        return tasks.decode(await self._call("POST", f"{guest.path}/snapshot", params))

    async def execute(self, guest: Guest, command: Sequence[str]) -> int:
        """Start a program in the guest; its process id there."""
        answer = await self._ask_agent(guest, "POST", "exec", {"command": [_octets(word) for word in command]})
        return int(answer["pid"])

    async def execution(self, guest: Guest, pid: int) -> Mapping[str, Any]:
        """The state of a program (`exec-status`)."""
        return dict(await self._ask_agent(guest, "GET", "exec-status", {"pid": pid}))

    async def tasks(self, node: str, **which: Any) -> list[Task]:
        """Tasks that ran or run on a node, newest first; only those that the account may see."""
        rows = await self._get(f"nodes/{node}/tasks", source="all", **which)
        return [tasks.listed(row) for row in rows]

    async def task(self, task: Task) -> Mapping[str, Any]:
        """The state of one task."""
        return dict(await self._get(f"{task.path}/status"))

    async def log(self, task: Task) -> list[str]:
        """The first lines of a task's log."""
        return [str(line["t"]) for line in await self._get(f"{task.path}/log", limit=LOG_LINES)]

    async def abort(self, task: Task) -> None:
        """End a task at once."""
        await self._call("DELETE", task.path)

    async def _ask_agent(self, guest: Guest, method: Method, what: str, params: Mapping[str, Any] | None = None) -> Any:
        return await self._call(method, f"{guest.path}/agent/{what}", params, AGENTS, AGENT_SECONDS)

    async def _get(self, path: str, **params: Any) -> Any:
        return await self._call("GET", path, params)

    async def _call(
        self,
        method: Method,
        path: str,
        params: Mapping[str, Any] | None = None,
        kind: str = "",
        timeout: float = ANSWER_SECONDS,
    ) -> Any:
        async with self._bounds[_node(path), kind]:
            return await self._session.call(method, path, params, timeout)


def _node(path: str) -> str:
    """The node that a call is for; "" if every node answers it by itself."""
    first, _, rest = path.partition("/")
    return rest.partition("/")[0] if first == "nodes" else ""


def _octets(text: str) -> str:
    """UTF-8 as Proxmox VE hands it on unharmed: it writes each character to the agent as one byte, and refuses those
    beyond Latin-1 (qemu-server, PVE::QMPClient: `to_json` without `utf8`, then IO::Multiplex's `syswrite`)."""
    return text.encode().decode("latin-1")
