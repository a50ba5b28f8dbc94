"""A control of `vsphere-200`: VMware's Python client, as scripts use it. Ask each VM, then look at each every 2 s."""

import os
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim, vmodl

from tests.bench.control import INTERVAL, Told, Work, tell, work
from tests.rigs.usage import rss


def main() -> None:
    """One after another, over one connection."""
    todo, told = work(), Told()
    service = _connect(todo)
    machines = _machines(service.content, todo)
    told.began, busy = time.time(), time.process_time()
    for vm in machines.values():
        vm.ShutdownGuest()
    _wait(machines, told)
    told.cpu, told.rss = time.process_time() - busy, rss(os.getpid(), peak=True)
    Disconnect(service)  # type: ignore[no-untyped-call]
    tell(told)


def _connect(todo: Work) -> Any:
    url = urlsplit(todo.url)
    trust = ssl.create_default_context(cafile=todo.ca)
    login = {"user": todo.username, "pwd": todo.password}
    return SmartConnect(host=url.hostname, port=url.port, sslContext=trust, **login)  # type: ignore[no-untyped-call]


def _machines(content: Any, todo: Work) -> dict[str, Any]:
    """The VMs by their names, which one call reads."""
    query = vmodl.query.PropertyCollector
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
    step = query.TraversalSpec(name="view", path="view", skip=False, type=vim.view.ContainerView)
    objects = [query.ObjectSpec(obj=view, skip=True, selectSet=[step])]
    wanted = [query.PropertySpec(type=vim.VirtualMachine, pathSet=["name"])]
    found = content.propertyCollector.RetrieveContents([query.FilterSpec(objectSet=objects, propSet=wanted)])
    return {one.propSet[0].val: one.obj for one in found if one.propSet[0].val in todo.names}


def _wait(machines: Mapping[str, Any], told: Told) -> None:
    left = dict(machines)
    while left:
        time.sleep(INTERVAL)
        for name, vm in list(left.items()):
            if vm.runtime.powerState == vim.VirtualMachine.PowerState.poweredOff:
                told.off[name] = time.time()
                del left[name]


if __name__ == "__main__":
    main()
