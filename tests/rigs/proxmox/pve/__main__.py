"""The cluster as a process: `python -m tests.rigs.proxmox.pve CONFIG READY`; cluster.py starts it.

What its files say of PVE was read in qemu-server 9.2.6, pve-container 6.1.10, pve-ha-manager 5.2.0, pve-manager 9.2.11,
pve-common 9.2.1, pve-guest-common 6.0.2, pve-http-server 6.0.5, pve-access-control 9.1.1 and pve-cluster 9.1.6.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.rigs.proxmox.pve.agent import Agent
from tests.rigs.proxmox.pve.containers import Containers
from tests.rigs.proxmox.pve.control import Control
from tests.rigs.proxmox.pve.datacenter import Datacenter
from tests.rigs.proxmox.pve.edge import Edge
from tests.rigs.proxmox.pve.ha import Ha
from tests.rigs.proxmox.pve.qemu import Qemu
from tests.rigs.proxmox.pve.resources import Resources


def cluster(config: dict[str, Any]) -> tuple[Control, Edge, Agent]:
    """All of it, with its guests; it does not listen yet."""
    datacenter = Datacenter(config)
    ha = Ha(datacenter, config["ha_delay"])
    qemu, containers = Qemu(datacenter, ha), Containers(datacenter, ha)
    ha.hands = {"qemu": qemu, "lxc": containers}
    resources = Resources(datacenter, config["stale_secs"])
    agent = Agent(datacenter, Path(config["folder"]) / "guests")
    routes = {
        call: handler
        for part in (datacenter.tasks, qemu, containers, ha, resources, agent)
        for call, handler in part.routes().items()
    }
    edge = Edge(datacenter, routes, config["latency"])
    for key, behaviour in config["guests"].items():
        datacenter.add(key, behaviour)
    return Control(datacenter, edge, ha, resources), edge, agent


def port(control: Control) -> web.Application:
    """The control port: an action by its name, with its arguments as a JSON object."""

    async def act(request: web.Request) -> web.Response:
        try:
            answer = await getattr(control, request.match_info["action"])(**await request.json())
        except Exception as error:  # whatever it is, the test that did it has to see it
            return web.Response(status=400, text=f"{type(error).__name__}: {error}")
        return web.json_response(answer)

    application = web.Application()
    application.router.add_post("/{action:[a-z][a-z_]*}", act)
    return application


async def serve(config: dict[str, Any], ready: Path) -> None:
    """Serve until SIGTERM."""
    control, edge, agent = cluster(config)
    for node, (host, certificate, _) in config["certificates"].items():
        await edge.listen(node, host, certificate)
    runner = web.AppRunner(port(control), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    urls = [endpoint.url for endpoint in edge.endpoints]
    text = json.dumps({"urls": urls, "control": f"http://127.0.0.1:{runner.addresses[0][1]}"})
    part = ready.with_suffix(".part")
    part.write_text(text)
    part.rename(ready)
    ends = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ends.set)
    await ends.wait()
    agent.close()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])))
