"""A cluster behind a session that needs no wire: rows, tasks, and what it was asked, in Proxmox VE's words."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from providers.core.adapter import ActiveVMs, Change, none_active
from providers.core.errors import VmpowerError
from providers.proxmox.adapter import ProxmoxAdapter
from providers.proxmox.errors import Refused, translate
from providers.proxmox.tasks import SHUTDOWNS, STARTS, STOPS

Row = dict[str, Any]
Call = tuple[str, str, Mapping[str, Any]]
RUNS = ""
AFTERWARDS = dict.fromkeys(STARTS, "running") | dict.fromkeys(STOPS | SHUTDOWNS, "stopped")
HA = {"start": "hastart", "stop": "hastop", "shutdown": "hastop"}


def row(vmid: int, kind: str = "qemu", **fields: Any) -> Row:
    """A guest that runs on pve1, unless `fields` say otherwise."""
    return {"vmid": vmid, "type": kind, "name": f"vm-{vmid}", "node": "pve1", "status": "running"} | fields


def refusal(text: str, status: int = 500) -> VmpowerError:
    """What a session raises when a call is refused so."""
    return translate(Refused(status, text))


class Cluster:
    """Answers as Proxmox VE does, or as `answers` say; an error there is raised.

    A task ends at once as `ends` says of its kind, or well; then it changes its guest, unless it only told HA to.
    """

    def __init__(self) -> None:
        self.rows = {"100": row(100), "101": row(101, "lxc")}
        self.configs: dict[str, Row] = {}
        self.current: dict[str, Row] = {}
        self.answers: dict[str, Any] = {}
        self.ends = {"qmshutdown": RUNS, "vzshutdown": RUNS}
        self.log: list[str] = []
        self.tasks: list[Row] = []
        self.granted: Row = {}
        self.granted_on_nodes: Row = {"Sys.Audit": 1}
        self.ha: list[Row] = []
        self.omitted = set[str]()
        """Guests that cluster/resources leaves out."""
        self.moving = set[str]()
        """Guests that no node has at this moment, although there are such."""
        self.leaves_when_ended = ""
        """The guest that goes off while a task is ended."""
        self.pids: dict[str, int] = {"100": 4711, "101": 815}
        self.user = "vmpower@pve"
        self.asked: list[Call] = []
        self.gone: VmpowerError | None = None
        self.held: asyncio.Event | None = None
        """Until it is set, nothing that changes something is answered."""
        self.closed = False

    @property
    def told(self) -> list[Call]:
        """What was to change something."""
        return [call for call in self.asked if call[0] != "GET" and not call[1].endswith("agent/ping")]

    async def call(self, method: str, path: str, params: Mapping[str, Any] | None = None, _timeout: float = 0) -> Any:
        self.asked.append((method, path, dict(params or {})))
        await asyncio.sleep(0)
        if self.held and method != "GET":
            await self.held.wait()
        answer = self.gone or self.answers.get(path) or self._answer(method, path, dict(params or {}))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = True

    def begin(self, vm_id: str, kind: str, end: str = RUNS) -> Row:
        """A task that has this end."""
        node, number = self.rows[vm_id]["node"], len(self.tasks)
        upid = f"UPID:{node}:{number:08X}:00001B6D:6B064C7F:{kind}:{vm_id}:vmpower@pve:"
        task = {"upid": upid, "node": node, "type": kind, "id": vm_id, "user": "vmpower@pve", "starttime": 1000}
        self.tasks.insert(0, task)
        if end != RUNS:
            self.end(task, end)
        return task

    def end(self, task: Row, status: str = "OK") -> None:
        """It has ended so."""
        task |= {"status": status, "endtime": task["starttime"] + 5}
        if status == "OK" and task["type"] in AFTERWARDS:
            self.rows[task["id"]]["status"] = AFTERWARDS[task["type"]]

    def _answer(self, method: str, path: str, params: Row) -> Any:
        plain = {
            "version": {"version": "9.0.10"},
            "access/permissions": {"/": self.granted, "/nodes": self.granted_on_nodes},
            "cluster/resources": [dict(one) for vm_id, one in self.rows.items() if vm_id not in self.omitted],
            "cluster/ha/status/current": self.ha,
            "nodes": [{"node": "pve1"}, {"node": "pve2"}],
        }
        if path in plain:
            return plain[path]
        if path == "cluster/nextid":
            return self._next_id(params["vmid"])
        _, node, kind, *rest = path.split("/")
        if kind == "tasks":
            return self._of_tasks(method, node, rest, params)
        if not rest:
            there = [one for one in self.rows.values() if (one["node"], one["type"]) == (node, kind)]
            return [dict(one) | self._process(one) for one in there]
        return self._of_guest(node, rest[0], "/".join(rest[1:]))

    def _of_tasks(self, method: str, node: str, path: list[str], params: Row) -> Any:
        if method == "DELETE":
            [task] = [one for one in self.tasks if one["upid"] == path[0]]
            if task["id"] == self.leaves_when_ended:
                self.rows[task["id"]]["status"] = "stopped"
            return self.end(task, "unexpected status")
        if path:
            assert path[1:] == ["log"]
            return [{"t": line} for line in self.log]
        which = params.get("vmid")
        return [dict(one) for one in self.tasks if one["node"] == node and which in (None, one["id"])]

    def _next_id(self, vm_id: str) -> Any:
        if vm_id in self.rows or vm_id in self.moving:
            return translate(Refused(400, "Parameter verification failed.", {"vmid": f"VM {vm_id} already exists"}))
        return vm_id

    def _process(self, guest: Row) -> Row:
        return {} if guest["status"] == "stopped" else {"pid": self.pids[str(guest["vmid"])]}

    def _of_guest(self, node: str, vm_id: str, what: str) -> Any:
        guest = self.rows.get(vm_id)
        if guest is None or guest["node"] != node:
            return refusal(f"Configuration file 'nodes/{node}/qemu-server/{vm_id}.conf' does not exist")
        plain = {
            "config": self.configs.get(vm_id, {}),
            "status/current": self.current.get(vm_id)
            or {"status": guest["status"], "lock": guest.get("lock", "")} | self._process(guest),
            "agent/ping": {"result": {}},
            "agent/exec": {"pid": 7},
            "agent/exec-status": {"exited": 1, "exitcode": 3, "out-data": "said"},
            "monitor": "",
        }
        return plain[what] if what in plain else self._begun(vm_id, what.removeprefix("status/"))

    def _begun(self, vm_id: str, verb: str) -> str:
        guest = self.rows[vm_id]
        own = ("qm" if guest["type"] == "qemu" else "vz") + verb
        kind = HA[verb] if guest.get("hastate") and verb in HA else own
        return str(self.begin(vm_id, kind, self.ends.get(kind, "OK"))["upid"])


@asynccontextmanager
async def watched(
    adapter: ProxmoxAdapter, cluster: Cluster, active_vms: ActiveVMs = none_active
) -> AsyncIterator[list[Change]]:
    """What the adapter's watch tells, as it comes; what was asked until then is forgotten."""
    told, begun = list[Change](), asyncio.Event()

    async def follow() -> None:
        async for change in adapter.watch(active_vms):
            told.append(change)
            begun.set()

    work = asyncio.create_task(follow())
    await begun.wait()
    cluster.asked.clear()
    yield told
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
