"""The property collector: one call that waits for updates of all objects that matter, and reads of single VMs.

Three filters. The first follows the VMs in scope and, for their paths and nodes, folders, datacenters and hosts, by
container views. The second follows the tasks that vCenter lists as recent: ours, and any other that holds a VM or
ends its run. The order matters: a task begins before what it does, so a collector that reads VMs first and tasks
after them finds the task. The third follows the latest events of guests that crashed: of such a guest the VM itself
shows no more than that its tools do not run. Nothing is polled.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pyVmomi import vim, vmodl

from providers.core.errors import HypervisorUnavailable
from providers.vsphere.errors import why
from providers.vsphere.events import CRASHED, EVENTS
from providers.vsphere.properties import KINDS, VM_PATHS, Update, update
from providers.vsphere.session import Link, SessionLost

PC: Any = vmodl.query.PropertyCollector

LOST = (vmodl.fault.ManagedObjectNotFound, vmodl.fault.RequestCanceled, vmodl.query.InvalidCollectorVersion)
UNABLE = (vmodl.fault.NotSupported, vmodl.fault.NotImplemented)
POLL_SECONDS = 15
"""How long vCenter holds the call that waits for updates before it answers that there are none; well below
CALL_SECONDS, after which silence is an outage."""
MOST_EVENTS = 1000
"""As many as vCenter returns at once."""
LATEST_CRASHES = 100
"""As many guests that crash at once are told of; vCenter sends all of them again with each one more."""
PLACES = [vim.Folder, vim.Datacenter, vim.HostSystem]


@dataclass(frozen=True, slots=True)
class Updates:
    """What changed up to `version`, which the next call is sent; `more`: it need not wait, for the answer was cut."""

    version: str
    updates: tuple[Update, ...] = ()
    more: bool = False


async def subscribe(link: Link, scope: str) -> str:
    """Begin to follow what is in scope, by a few calls; returns the collector's id.

    Raises:
        HypervisorUnavailable: there is no such scope.
    """
    collector = await link.content.propertyCollector.CreatePropertyCollector()
    views = link.content.viewManager
    vms = await views.CreateContainerView(await _container(link, scope), [vim.VirtualMachine], True)
    places = await views.CreateContainerView(link.content.rootFolder, PLACES, True)
    await collector.CreateFilter(_inventory(link.content.rootFolder, vms, places), False)
    await collector.CreateFilter(_recent_tasks(link.content.taskManager), False)
    if crashes := await _crashes(link):
        await collector.CreateFilter(_latest_events(crashes), False)
    return str(collector._moId)


async def wait_for_updates(link: Link, collector: str, version: str) -> Updates:
    """Wait until something is different from `version`, or for as long as vCenter holds the call.

    Of the version "" everything is an update.

    Raises:
        SessionLost: the collector is gone, or does not know the version.
    """
    options = PC.WaitOptions(maxWaitSeconds=POLL_SECONDS)
    try:
        answer = await PC(collector, link.stub).WaitForUpdatesEx(version, options)
    except LOST as fault:
        raise SessionLost(f"vCenter does not follow any more ({why(fault)}); all is read again.") from fault
    if answer is None:
        return Updates(version)
    return Updates(answer.version, tuple(_updates(answer)), bool(answer.truncated))


async def unsubscribe(link: Link, collector: str) -> None:
    """Destroy the collector; a call that waits ends."""
    with suppress(*LOST):
        await PC(collector, link.stub).Destroy()


async def read(link: Link, moids: Sequence[str]) -> dict[str, Update]:
    """VMs as they are now, in one call; those that do not exist are not in the answer."""
    found = await _retrieve(link, [link.vm(moid) for moid in moids], list(VM_PATHS))
    whole = [(reference, [(path, told.get(path)) for path in VM_PATHS]) for reference, told in found]
    return {str(reference._moId): update(reference, values, enters=True) for reference, values in whole}


async def certificate(link: Link, host: str) -> str:
    """A host's certificate, PEM, as vCenter knows it; one call."""
    [(_, told)] = await _retrieve(link, [vim.HostSystem(host, link.stub)], ["config.certificate"])
    return bytes(byte & 0xFF for byte in told["config.certificate"]).decode()


async def guest_managers(link: Link) -> tuple[Any, Any]:
    """Those of files and of processes in guests; one call in a session."""
    if "guests" not in link.kept:
        [(_, told)] = await _retrieve(link, [link.content.guestOperationsManager], ["fileManager", "processManager"])
        link.kept["guests"] = (told["fileManager"], told["processManager"])
    files, processes = link.kept["guests"]
    return files, processes


async def find(link: Link, vm_id: str) -> str:
    """The id within vCenter of the VM with this instance UUID; empty: there is none. One call."""
    found = await link.content.searchIndex.FindByUuid(None, vm_id, True, True)
    return str(found._moId) if found else ""


async def power_events(link: Link, since: timedelta) -> Mapping[str, list[Any]]:
    """What vCenter recorded of VMs' power, by their ids, oldest first; by two calls.

    Empty where it recorded so much that some may be left out, or where this account may not read it. An ESXi host alone
    keeps no such record that could be asked so.
    """
    service: Any = vim.ServiceInstance("ServiceInstance", link.stub)
    now = await service.CurrentTime()
    spec = vim.event.EventFilterSpec(
        time=vim.event.EventFilterSpec.ByTime(beginTime=now - since), eventTypeId=list(EVENTS), maxCount=MOST_EVENTS
    )
    try:
        told = await link.content.eventManager.QueryEvents(spec)
    except (vim.fault.NoPermission, *UNABLE):
        return {}
    found = dict[str, list[Any]]()
    if told and len(told) < MOST_EVENTS:
        for event in sorted(told, key=lambda event: int(event.key)):
            if event.vm:
                found.setdefault(str(event.vm.vm._moId), []).append(event)
    return found


async def _retrieve(link: Link, references: list[Any], paths: list[str]) -> list[tuple[Any, dict[str, Any]]]:
    spec = PC.FilterSpec(
        propSet=[PC.PropertySpec(type=type(references[0]), pathSet=paths)],
        objectSet=[PC.ObjectSpec(obj=reference) for reference in references],
        reportMissingObjectsInResults=True,
    )
    collector = link.content.propertyCollector
    result = await collector.RetrievePropertiesEx([spec], PC.RetrieveOptions())
    found = list(result.objects) if result else []
    while result and result.token:  # vCenter hands over only so many at once
        result = await collector.ContinueRetrievePropertiesEx(result.token)
        found += result.objects
    return [(content.obj, {prop.name: prop.val for prop in content.propSet}) for content in found]


async def _crashes(link: Link) -> Any:
    """vCenter's collector of events of guests that crashed, one a session; None: it gives this account none."""
    if "crashes" not in link.kept:
        spec = vim.event.EventFilterSpec(eventTypeId=[CRASHED], maxCount=LATEST_CRASHES)
        link.kept["crashes"] = None
        with suppress(vim.fault.InvalidState, vim.fault.NoPermission, *UNABLE):  # InvalidState: it has too many
            link.kept["crashes"] = await link.content.eventManager.CreateCollectorForEvents(spec)
    return link.kept["crashes"]


async def _container(link: Link, scope: str) -> Any:
    if not scope.strip("/"):
        return link.content.rootFolder
    found = await link.content.searchIndex.FindByInventoryPath(scope.strip("/"))
    if found is None:
        message = f"The inventory has no {scope}, or hides it from this account; the provider's operator mends --scope."
        raise HypervisorUnavailable(message)
    return found


def _updates(answer: Any) -> Iterable[Update]:
    for filter_update in answer.filterSet:
        for change in filter_update.objectSet:
            values = None if change.kind == "leave" else ((c.name, c.val) for c in change.changeSet)
            yield update(change.obj, values, enters=change.kind == "enter")


def _recent_tasks(manager: Any) -> Any:
    tasks = _through(manager, vim.TaskManager, "recentTask")
    return PC.FilterSpec(propSet=[_properties(vim.Task)], objectSet=[tasks])


def _latest_events(events: Any) -> Any:
    kind = vim.event.EventHistoryCollector
    return PC.FilterSpec(propSet=[_properties(kind)], objectSet=[PC.ObjectSpec(obj=events, skip=False)])


def _inventory(root: Any, vms: Any, places: Any) -> Any:
    views = [_through(view, vim.view.ContainerView, "view") for view in (vms, places)]
    objects = [PC.ObjectSpec(obj=root, skip=False), *views]
    return PC.FilterSpec(propSet=[_properties(kind) for kind in (vim.VirtualMachine, *PLACES)], objectSet=objects)


def _through(owner: Any, kind: Any, path: str) -> Any:
    step = PC.TraversalSpec(name=path, type=kind, path=path, skip=False)
    return PC.ObjectSpec(obj=owner, skip=True, selectSet=[step])


def _properties(kind: Any) -> Any:
    return PC.PropertySpec(type=kind, pathSet=list(KINDS[kind._wsdlName][1]))
