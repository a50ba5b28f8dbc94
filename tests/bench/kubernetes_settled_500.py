"""Five hundred VirtualMachines that are as they are declared, on a real API server: for a minute, and for another one
after a restart of the controller."""

import asyncio

from tests.bench.sim import names
from tests.bench.table import Result, Row
from tests.rigs.kubernetes.audit import AuditEvent
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.fleet import Fleet, fleet
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.tap import Tap

EACH, MINUTE = 250, 60.0
SCRIPT = f"guests: {{on: {{count: {EACH}}}, off: {{count: {EACH}, shutdown_time: 1s}}}}"
RUNNING, STOPPED = names("on", EACH), names("off", EACH)


async def bench() -> Result:
    """All that is asked of the API server, of the provider and of its hypervisor."""
    with Cluster() as cluster:
        cluster.install_crds()
        with open_lab(cluster, SCRIPT) as lab, Tap(lab.provider.address) as tap:
            lab.vms.declare_provider("lab", tap.address)
            async with fleet(lab.cluster.kubeconfig, lab.namespace) as machines:
                await machines.create(RUNNING, _spec("On"))
                await machines.create(STOPPED, _spec("OffGraceful"))
                await _settled(lab, machines)
                rows = [await _minute(lab, tap, "settled")]
                await asyncio.to_thread(lab.controller.stop)
                rows.append(await _minute(lab, tap, "from the start of another controller", start=True))
    notes = ("requests: by the API server's audit log; the Lease is renewed for as long as a controller leads",)
    return Result(f"{2 * EACH} settled VirtualMachines, a minute", rows, notes)


def _spec(power_state: str) -> dict[str, object]:
    return {"providerRef": {"name": "lab"}, "powerState": power_state}


async def _settled(lab: Lab, machines: Fleet) -> None:
    """All is told: what each VM is, its last Event, and that the Provider is in use."""
    phases = dict.fromkeys(RUNNING, "Running") | dict.fromkeys(STOPPED, "Off")
    async with asyncio.timeout(300):
        while True:
            found = await machines.all()
            if {name: each.get("status", {}).get("phase") for name, each in found.items()} == phases:
                break
            await asyncio.sleep(0.5)
    for name in STOPPED:
        await asyncio.to_thread(lab.vms.wait_event, name, "GracefulShutdown")
    await asyncio.to_thread(
        lab.vms.wait, "lab", lambda provider: bool(provider["metadata"].get("finalizers")), kind="vmprov"
    )


async def _minute(lab: Lab, tap: Tap, title: str, *, start: bool = False) -> Row:
    mark, heard, asked = lab.cluster.mark(), len(tap.calls), _hypervisor_calls(lab)
    if start:
        lab.controller.start()
    await asyncio.sleep(MINUTE)
    requests = lab.cluster.audit(lab.user, since=mark)
    others = [event for event in requests if event.resource != "leases"]
    return {
        "": title,
        "of the Lease": len(requests) - len(others),
        "other reads": len(others) - _writes(others),
        "other writes": _writes(others),
        "calls to the provider": len(tap.calls) - heard,
        "calls to the hypervisor": _hypervisor_calls(lab) - asked,
    }


def _writes(events: list[AuditEvent]) -> int:
    return sum(event.is_write for event in events)


def _hypervisor_calls(lab: Lab) -> int:
    told = [lab.world.hypervisor().calls, *(guest.calls for guest in lab.world.guests())]
    return sum(sum(each.values()) for each in told)
