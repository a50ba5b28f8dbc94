"""How soon guests are asked on a real API server: a hundred patched within a second, and one that is to go hard off
while two hundred wait."""

import asyncio
import math
from collections.abc import Callable

from tests.bench.sim import DEAF, names
from tests.bench.table import Result, Row, spread
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.fleet import Fleet, fleet
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object

SCRIPT = "guests:\n  web: {shutdown_time: 5s, count: 100}\n  deaf: " + f"{DEAF | {'count': 200}}\n"
WEBS, WAITING = names("web", 100), names("deaf", 200)
HARD = WAITING[:20]
ON = {"providerRef": {"name": "lab"}, "powerState": "On", "lifecycle": {"gracefulShutdownTimeout": "1h"}}
OFF, OFF_GRACEFUL = ({"spec": {"powerState": power_state}} for power_state in ("Off", "OffGraceful"))


async def bench() -> Result:
    """Each from sending the patch."""
    with Cluster() as cluster:
        cluster.install_crds()
        with open_lab(cluster, SCRIPT) as lab:
            async with fleet(lab.cluster.kubeconfig, lab.namespace) as machines:
                await machines.create((*WEBS, *WAITING), ON)
                await _all_in_phase(lab, (*WEBS, *WAITING), "Running")
                rows = [await _asked(lab, machines), await _cut(lab, machines)]
    notes = ("guests need 5 s, which is not counted; by the times that the sim keeps of what its guests heard and did",)
    return Result("from the patch until the guest is asked, or its power is cut", rows, notes)


async def _asked(lab: Lab, machines: Fleet) -> Row:
    sent = await machines.patch(WEBS, OFF_GRACEFUL)
    await _all_in_phase(lab, WEBS, "Off")
    asked = {vm: min(line.at for line in lab.guest(vm).console if "asked" in line.text) for vm in WEBS}
    within = max(sent.values()) - min(sent.values())
    title = f"100 patched within {within:.2g} s: asked"
    return {"": title, "VMs": len(WEBS), **spread([asked[vm] - sent[vm] for vm in WEBS])}


async def _cut(lab: Lab, machines: Fleet) -> Row:
    await machines.patch(WAITING, OFF_GRACEFUL)
    await _all_in_phase(lab, WAITING, "ShuttingDown")
    late = []
    for vm in HARD:
        sent = await machines.patch_one(vm, OFF)
        await _all_in_phase(lab, [vm], "Off")
        late.append((lab.guest(vm).off_at or math.inf) - sent)
    return {"": "hard Off among 200 that wait: off", "VMs": len(HARD), **spread(late)}


async def _all_in_phase(lab: Lab, vms: list[str] | tuple[str, ...], phase: str) -> None:
    await asyncio.to_thread(lab.vms.wait_all, vms, _in_phase(phase))


def _in_phase(phase: str) -> Callable[[Object], bool]:
    return lambda state: state.get("status", {}).get("phase") == phase
