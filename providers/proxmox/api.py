"""The calls of Proxmox VE's API that are made here, and nothing of what they are made for.

Paths, parameters and answers: the API viewer, https://pve.proxmox.com/pve-docs/api-viewer/.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from providers.blocking import Lane
from providers.errors import CommandFailed
from providers.proxmox import guests, tasks
from providers.proxmox.guests import LXC, QEMU, Config, Guest
from providers.proxmox.session import Session, Unanswered
from providers.proxmox.tasks import Task

AGENT_SECONDS = 20.0
"""A call that asks an agent may take as long as Proxmox VE waits for it: 3 s for the ping before it, 10 s for most."""
LOG_LINES = 200
NO_TASK_LIMIT = 5000
"""Rows of a task list. It is read newest first, so what is beyond is long past."""


class Api:
    """Typed calls. Two lanes, so that guests whose agents hang hold up nobody else."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._quick = Lane("proxmox", 8)
        self._agents = Lane("proxmox-agents", 8)
        self._reading: asyncio.Task[list[Guest]] | None = None

    async def version(self) -> str:
        """As in "9.0.10"."""
        return str((await self._get("version"))["version"])

    async def guests(self) -> list[Guest]:
        """Every guest that we may see; one call, for all who ask at the same time."""
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
        """Its state as its node knows it, which cluster/resources learns of up to 10 s later."""
        current: Mapping[str, Any] = await self._get(f"{guest.path}/status/current")
        return current

    async def ping(self, guest: Guest) -> bool:
        """Whether its guest agent answers.

        Raises:
            CommandFailed: that may not be asked.
        """
        try:
            await self._session.call(self._agents, "POST", f"{guest.path}/agent/ping", timeout=AGENT_SECONDS)
        except Unanswered:
            return False
        except CommandFailed as error:
            if error.metadata.get("status") == "403":
                raise
            return False
        return True

    async def act(self, guest: Guest, verb: str, params: Mapping[str, Any] | None = None) -> Task:
        """Begin to start, stop, shut down or resume it."""
        return tasks.decode(await self._post(f"{guest.path}/status/{verb}", params))

    async def snapshot(self, guest: Guest, params: Mapping[str, Any]) -> Task:
        """Begin a snapshot."""
        return tasks.decode(await self._post(f"{guest.path}/snapshot", params))

    async def execute(self, guest: Guest, command: Sequence[str]) -> int:
        """Start a program in the guest; its process id there."""
        params = {"command": list(command)}
        answer = await self._session.call(
            self._agents, "POST", f"{guest.path}/agent/exec", params, timeout=AGENT_SECONDS
        )
        return int(answer["pid"])

    async def execution(self, guest: Guest, pid: int) -> Mapping[str, Any]:
        """How it stands with a program."""
        params = {"pid": pid}
        answer: Mapping[str, Any] = await self._session.call(
            self._agents, "GET", f"{guest.path}/agent/exec-status", params, timeout=AGENT_SECONDS
        )
        return answer

    async def tasks(self, node: str, **which: Any) -> list[Task]:
        """Tasks that ran or run on a node, newest first; only those that we may see."""
        rows = await self._get(f"nodes/{node}/tasks", source="all", **which)
        return [tasks.listed(row) for row in rows]

    async def task(self, task: Task) -> Mapping[str, Any]:
        """How it stands with one task."""
        status: Mapping[str, Any] = await self._get(f"{task.path}/status")
        return status

    async def log(self, task: Task) -> list[str]:
        """What a task has said so far."""
        return [str(line["t"]) for line in await self._get(f"{task.path}/log", limit=LOG_LINES)]

    async def abort(self, task: Task) -> None:
        """End a task at once."""
        await self._session.call(self._quick, "DELETE", task.path)

    async def _get(self, path: str, **params: Any) -> Any:
        return await self._session.call(self._quick, "GET", path, params)

    async def _post(self, path: str, params: Mapping[str, Any] | None) -> str:
        return str(await self._session.call(self._quick, "POST", path, params))
