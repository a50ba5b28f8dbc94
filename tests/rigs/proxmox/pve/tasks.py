"""Worker tasks: how they wait for a guest's lock, end, are aborted and listed. fakepve's cannot be aborted."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

from fakepve.model import PveError, TaskError

Handler = Callable[[Mapping[str, Any], str], Awaitable[object]]
"""Answers a call: its checked parameters, and who calls."""
Routes = dict[tuple[str, str], Handler]
"""By method and the path of PVE's schema."""


class Killed(Exception):
    """A worker that did not end when it was told to, and now had no time to say how."""


class Tasks:
    """All tasks of the cluster. fakepve's own (snapshots, ...) are started here too."""

    def __init__(self, pve: Any) -> None:
        self._pve = pve
        self._workers = dict[str, asyncio.Task[None]]()
        self._ended = list[dict[str, Any]]()
        pve.task = self.start

    def routes(self) -> Routes:
        """The calls that are answered here."""
        tasks = "/nodes/{node}/tasks"
        return {
            ("GET", "/cluster/tasks"): self._recent,
            ("GET", tasks): self._list,
            ("DELETE", tasks + "/{upid}"): self._stop,
            ("GET", tasks + "/{upid}/status"): self._status,
            ("GET", tasks + "/{upid}/log"): self._log,
        }

    async def start(
        self,
        node: str,
        kind: str,
        subject: object,
        user: str,
        body: Callable[[], Awaitable[str | None]],
        vm: Any = None,
        lock: bool = True,
        log: Iterable[str] = (),
    ) -> str:
        """Start a task and return its UPID; `body` raises TaskError to fail, and may write to `log`, if that is a list.

        With a `vm`, it first takes that one's config lock.
        """
        upid, pid, started = self._pve._upid(node, kind, subject, user)
        record = {"upid": upid, "node": node, "pid": pid, "pstart": pid * 7, "starttime": started, "type": kind}
        record |= {"id": str(subject), "user": user, "status": "running"}
        record["log"] = log if isinstance(log, list) else list(log)
        self._pve.tasks[upid] = record
        self._pve.tasklog.append(record)
        self._workers[upid] = asyncio.create_task(self._run(record, body, vm if lock else None))
        return str(upid)

    async def ended(self, upid: str) -> str:
        """Wait for a task's end; its exit status."""
        if worker := self._workers.get(upid):
            await asyncio.wait([worker])
        return str(self._pve.tasks[upid]["exitstatus"])

    @contextlib.asynccontextmanager
    async def config_lock(self, vm: Any, log: list[str]) -> AsyncIterator[None]:
        """The lock file of a guest's config; PVE waits 10 s for it (PVE::Tools::lock_file_full)."""
        holder = object()
        waits = vm.lock_holder is not None
        if waits:
            log.append("trying to acquire lock...")
        try:
            await self._pve.acquire(vm, holder)
        except asyncio.CancelledError:
            raise TaskError(f"can't lock file '{lock_file(vm)}' - received interrupt") from None
        if waits:
            log.append(" OK")
        try:
            yield
        finally:
            self._pve.release(vm, holder)

    async def abort(self, upid: str) -> None:
        """End a task, and wait for that.

        PVE::RESTEnvironment: a signal to the worker's process group, which lets it die with "received interrupt", then
        a look each second whether it is gone.
        """
        worker = self._workers.get(upid)
        if worker and worker.cancel():
            await self._pve.pause(1)
            await asyncio.wait([worker])

    async def abort_of_guest(self, kind: str, vmid: int, user: str) -> list[str]:
        """End a guest's running tasks of a kind, those that the user may end; their UPIDs.

        PVE::GuestHelpers::abort_guest_tasks. Those of others are left alone without a word.
        """
        running = [self._pve.tasks[upid] for upid in self._workers]
        mine = [
            task["upid"]
            for task in running
            if (task["type"], task["id"]) == (kind, str(vmid)) and self._may(user, task, "Sys.Modify")
        ]
        for upid in mine:
            await self.abort(upid)
        return mine

    async def _run(self, record: dict[str, Any], body: Callable[[], Awaitable[str | None]], vm: Any) -> None:
        log = record["log"]
        status = await self._outcome(log, body, vm)
        if status == "OK":
            log.append("TASK OK")
        elif status != "unexpected status":  # what PVE reads in the log of a task that was killed
            log.append(f"TASK ERROR: {status}")
        record |= {"status": "stopped", "exitstatus": status, "endtime": int(time.time())}
        self._ended.append(record)
        del self._workers[record["upid"]]

    async def _outcome(self, log: list[str], body: Callable[[], Awaitable[str | None]], vm: Any) -> str:
        try:
            async with self.config_lock(vm, log) if vm else contextlib.nullcontext():
                note = await body()
        except (TaskError, PveError) as error:
            return str(error)
        except asyncio.CancelledError:
            return "received interrupt"
        except Killed:
            return "unexpected status"
        if note:
            log.append(note)
        return "OK"

    # What clients see: PVE::API2::Tasks

    def _may(self, user: str, task: Mapping[str, Any], privilege: str) -> bool:
        return bool(self._pve._task_owner(user, task) or self._pve.allowed(user, f"/nodes/{task['node']}", privilege))

    def _task(self, v: Mapping[str, Any], user: str, privilege: str) -> dict[str, Any]:
        task: dict[str, Any] | None = self._pve.tasks.get(v["upid"])
        if task is None or task["node"] != v["node"]:
            raise PveError(400, "Parameter verification failed.", {"upid": "no such task"})
        if not self._pve._task_owner(user, task):
            self._pve.require(user, f"/nodes/{task['node']}", privilege)
        return task

    async def _stop(self, v: Mapping[str, Any], user: str) -> None:
        await self.abort(self._task(v, user, "Sys.Modify")["upid"])

    async def _status(self, v: Mapping[str, Any], user: str) -> dict[str, Any]:
        task = self._task(v, user, "Sys.Audit")
        return _shown(task) | {key: task[key] for key in ("status", "exitstatus") if key in task}

    async def _log(self, v: Mapping[str, Any], user: str) -> list[dict[str, Any]]:
        lines = self._task(v, user, "Sys.Audit")["log"] or ["no content"]
        start, limit = v.get("start", 0), v.get("limit", 50)
        return [{"n": n, "t": line} for n, line in enumerate(lines, 1)][start : start + limit]

    async def _list(self, v: Mapping[str, Any], user: str) -> list[dict[str, Any]]:
        """Those that run first, and then those that ended, the latest first; by default only the latter."""
        source = v.get("source", "archive")
        active = [self._pve.tasks[upid] for upid in self._workers] if source != "archive" else []
        archive = self._ended[::-1] if source != "active" else []
        seen = [task for task in active + archive if self._may(user, task, "Sys.Audit") and _matches(task, v)]
        start, limit = v.get("start", 0), v.get("limit", 50)
        return [_listed(task) for task in seen[start : start + limit]]

    async def _recent(self, _v: Mapping[str, Any], user: str) -> list[dict[str, Any]]:
        """All nodes' (PVE::API2::Cluster). A token does not see its own: they are compared after it was taken out."""
        audits = self._pve.allowed(user, "/", "Sys.Audit")
        tasks = [self._pve.tasks[upid] for upid in self._workers] + self._ended[:-26:-1]
        shown = [_shown(task) | {key: task[key] for key in ("endtime",) if key in task} for task in tasks]
        return [
            one | ({"status": task["exitstatus"]} if "exitstatus" in task else {})
            for one, task in zip(shown, tasks, strict=True)
            if audits or one["user"] == user
        ]


def lock_file(vm: Any) -> str:
    """The path of a guest's lock file."""
    if vm.guest.startswith("qemu"):
        return f"/var/lock/qemu-server/lock-{vm.vmid}.conf"
    return f"/run/lock/lxc/pve-config-{vm.vmid}.lock"


def _shown(task: Mapping[str, Any]) -> dict[str, Any]:
    """A token's tasks are shown as its owner's, with the token beside."""
    shown = {key: task[key] for key in ("upid", "node", "pid", "pstart", "starttime", "type", "id")}
    user, _, token = task["user"].partition("!")
    return shown | {"user": user} | ({"tokenid": token} if token else {})


def _listed(task: Mapping[str, Any]) -> dict[str, Any]:
    if task["status"] == "running":
        return _shown(task) | {"status": "RUNNING"}
    return _shown(task) | {"endtime": task["endtime"], "status": task["exitstatus"]}


def _matches(task: Mapping[str, Any], v: Mapping[str, Any]) -> bool:
    wanted = v.get("statusfilter", "ok,warning,error,unknown").split(",")
    if v.get("errors"):
        wanted = ["warning", "error", "unknown"]
    return (
        task["node"] == v["node"]
        and v.get("userfilter", "").lower() in task["user"].lower()
        and v.get("typefilter") in {None, task["type"]}
        and str(v.get("vmid", task["id"])) == task["id"]
        and v.get("since", 0) <= task["starttime"] <= v.get("until", task["starttime"])
        and _status_type(task.get("exitstatus")) in wanted
    )


def _status_type(status: str | None) -> str:
    """PVE::UPID::normalize_status_type; a task that runs is `unknown`."""
    if status in {None, "unexpected status"}:
        return "unknown"
    return "ok" if status == "OK" else "error"
