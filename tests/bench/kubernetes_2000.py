"""Two thousand VirtualMachines on a real API server switched to OffGraceful at once, the controller left alone or
killed in the middle."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from protos.power.v1 import power_pb2 as pb
from tests.bench.client import Client, client, moment
from tests.bench.sim import names, sim
from tests.bench.table import Result, Row, spread
from tests.rigs.kubernetes.audit import AuditEvent
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.controller import KubernetesController
from tests.rigs.kubernetes.fleet import Fleet, fleet
from tests.rigs.process import Provider
from tests.rigs.usage import cpu, rss

MACHINES = 2000
SHUTDOWN_TIME = 2.0
GUESTS = {"vm": {"count": MACHINES, "shutdown_time": SHUTDOWN_TIME, "hooks": [{"match": "save", "takes": "500ms"}]}}
HOOK = {"exec": {"command": ["save"]}}
SPEC = {"providerRef": {"name": "lab"}, "powerState": "On"}
SERVER = (
    "apiVersion: infra.virtrigaud.io/v1beta1\nkind: Provider\nmetadata: {{name: lab}}\n"
    'spec: {{type: sim, runtime: {{endpoint: "{}"}}}}\n'
)


@dataclass
class Rig:
    """All parts, with every machine declared, on, and settled."""

    cluster: Cluster
    controller: KubernetesController
    provider: Provider
    fleet: Fleet
    power: Client


async def bench() -> Result:
    """With the controller left alone, with a hook for each, and with the controller killed meanwhile."""
    rows = [await _row("left alone"), await _row("each with a hook", hook=True), await _row("killed", True, kill=True)]
    notes = (
        f"guests go down in {SHUTDOWN_TIME:g} s; from patch: from sending it to the step in which the guest is asked",
        "(the hook's 0.5 s included); writes: of the controller, by the API server's audit log; RSS and CPU: the",
        "controller's, from the first patch to the last verdict; killed: when a third were down, started again at once",
    )
    return Result(f"{MACHINES} VirtualMachines from On to OffGraceful", rows, notes)


async def _row(title: str, hook: bool = False, kill: bool = False) -> Row:
    async with _rig() as rig:
        mark, busy, before = rig.cluster.mark(), cpu(rig.controller.process.pid), 0.0
        patch: dict[str, Any] = {"spec": {"powerState": "OffGraceful"}}
        if hook:
            patch["spec"]["lifecycle"] = {"preStop": HOOK}
        began = time.time()
        patching = asyncio.create_task(rig.fleet.patch(names("vm", MACHINES), patch))
        if kill:
            await _until_ended(rig.power, MACHINES // 3)
            before = cpu(rig.controller.process.pid)
            rig.controller.kill()
            rig.controller.start()
            busy = busy - before
        sent = await patching
        machines = await _until_all_have_verdicts(rig)
        audit = rig.cluster.audit(since=mark)
        operations = await _operations(rig.power)
        _require_right(machines, operations, hook)
        written = _status_writes(audit)
        took = max(event.time.timestamp() for event in written) - began
        pid = rig.controller.process.pid
        return {
            "": title,
            "right verdicts": f"{len(machines)}/{MACHINES}",
            "status writes each": round(len(written) / MACHINES, 2),
            "Events each": round(sum(e.resource == "events" and e.is_write for e in audit) / MACHINES, 2),
            "VMs/s": round(MACHINES / took, 1),
            **spread([_asked(operations[name]) - sent[name] for name in sent], "from patch"),
            "RSS MiB": rss(pid, peak=True),
            "CPU s": round(cpu(pid) - busy, 1),
        }


@asynccontextmanager
async def _rig() -> AsyncIterator[Rig]:
    provider = sim(GUESTS)
    provider.command.append("--allow-guest-exec")
    with Cluster() as cluster, provider:
        cluster.install_crds()
        cluster.kubectl("apply", "-f", "-", input=SERVER.format(provider.address))
        async with fleet(cluster.kubeconfig, "default") as machines, client(provider.address) as power:
            await machines.create(names("vm", MACHINES), SPEC)
            with KubernetesController(cluster.kubeconfig, identity="bench") as controller:
                rig = Rig(cluster, controller, provider, machines, power)
                await _until(lambda: _settled(rig))
                yield rig


async def _settled(rig: Rig) -> bool:
    found = await rig.fleet.all()
    return all(machine.get("status", {}).get("phase") == "Running" for machine in found.values())


async def _until_ended(power: Client, count: int) -> None:
    async def ended() -> bool:
        page = await power.stub.ListOperations(pb.ListOperationsRequest(page_size=1000))
        return sum(operation.HasField("verdict") for operation in page.operations) >= min(count, 1000)

    await _until(ended)


async def _until_all_have_verdicts(rig: Rig) -> Mapping[str, Any]:
    machines: dict[str, Any] = {}

    async def all_have() -> bool:
        page = await rig.power.stub.ListOperations(pb.ListOperationsRequest(active_only=True, page_size=1))
        if page.operations:
            return False
        machines.update(await rig.fleet.all())
        return all("lastPowerOff" in machine["status"] for machine in machines.values())

    await _until(all_have)
    return machines


async def _until(holds: Any) -> None:
    """Look twice a second: a client that watched two thousand objects would take the cores of what is measured."""
    async with asyncio.timeout(300):
        while not await holds():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.5)


async def _operations(power: Client) -> dict[str, list[pb.Operation]]:
    """All operations, by the names of their VMs."""
    found: dict[str, list[pb.Operation]] = {}
    token = ""
    while True:
        page = await power.stub.ListOperations(pb.ListOperationsRequest(page_size=1000, page_token=token))
        for operation in page.operations:
            found.setdefault(operation.vm_name, []).append(operation)
        token = page.next_page_token
        if not token:
            return found


def _require_right(machines: Mapping[str, Any], operations: Mapping[str, list[pb.Operation]], hook: bool) -> None:
    """A wrong verdict, or a second try, is no figure: it ends the bench."""
    outcomes = Counter(machine["status"]["lastPowerOff"]["outcome"] for machine in machines.values())
    tries = Counter(len(each) for each in operations.values())
    hooks = Counter(tuple(h.state for h in each[0].verdict.hooks) for each in operations.values())
    expected = (pb.HOOK_STATE_SUCCEEDED,) if hook else ()
    if outcomes != {"GRACEFUL": MACHINES} or tries != {1: MACHINES} or hooks != {expected: MACHINES}:
        raise RuntimeError(f"all {MACHINES} should be GRACEFUL at the first try: {outcomes}, {tries}, {hooks}")


def _asked(operations: list[pb.Operation]) -> float:
    return next(moment(step.time) for step in operations[0].steps if step.message.startswith("asking the guest"))


def _status_writes(audit: list[AuditEvent]) -> list[AuditEvent]:
    return [event for event in audit if event.resource == "virtualmachines" and event.subresource == "status"]
