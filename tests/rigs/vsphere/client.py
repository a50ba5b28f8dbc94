"""VMware's own client on the rig, with nothing of ours between them.

with client(vcenter) as content:
    machine(content, vcenter, "web").ShutdownGuest()
"""

import ssl
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl
from pyVmomi.SoapAdapter import SoapStubAdapter

from tests.rigs.polling import poll
from tests.rigs.vsphere.vcenter import VCenter

VERSION = "vim.version.v8_0_2_0"


@contextmanager
def client(vcenter: VCenter) -> Iterator[Any]:
    """A session's ServiceContent."""
    url = urlsplit(vcenter.url)
    trust = ssl.create_default_context(cafile=str(vcenter.ca))
    stub = SoapStubAdapter(url.hostname, url.port, version=VERSION, path=url.path, sslContext=trust)
    try:
        content: Any = vim.ServiceInstance("ServiceInstance", stub).RetrieveContent()
        content.sessionManager.Login(vcenter.username, vcenter.password)
        yield content
    finally:
        stub.DropConnections()


def machine(content: Any, vcenter: VCenter, name: str) -> Any:
    """The VM that the rig knows by this name."""
    return vim.VirtualMachine(vcenter.show(name)["moid"], content.rootFolder._stub)


def ended(task: Any) -> Any:
    """A task when it has ended; its error is raised."""
    WaitForTask(task)  # type: ignore[no-untyped-call]
    return task


class Inside:
    """A guest from within, for one login."""

    def __init__(self, content: Any, vm: Any, username: str = "root", password: str = "guest") -> None:
        operations = content.guestOperationsManager
        self.files, self.processes = operations.fileManager, operations.processManager
        self._stub = content.rootFolder._stub
        self._vm = vm
        self._auth = vim.vm.guest.NamePasswordAuthentication(
            username=username, password=password, interactiveSession=False
        )

    def start(self, program: str, arguments: str = "", **spec: Any) -> int:
        """StartProgramInGuest; the process's number."""
        spec["programPath"], spec["arguments"] = program, arguments
        wanted = vim.vm.guest.ProcessManager.ProgramSpec(**spec)
        pid: int = self.processes.StartProgramInGuest(self._vm, self._auth, wanted)
        return pid

    def process(self, pid: int) -> Any:
        """What ListProcessesInGuest says of one."""
        return self.processes.ListProcessesInGuest(self._vm, self._auth, [pid])[0]

    def run(self, program: str, arguments: str = "", **spec: Any) -> Any:
        """Start a program; what ListProcessesInGuest says of it when it has ended."""
        pid = self.start(program, arguments, **spec)
        return poll(lambda: process if (process := self.process(pid)).endTime else None)

    def terminate(self, pid: int) -> None:
        """TerminateProcessInGuest."""
        self.processes.TerminateProcessInGuest(self._vm, self._auth, pid)

    def temporary(self) -> str:
        """CreateTemporaryFileInGuest; its path."""
        path: str = self.files.CreateTemporaryFileInGuest(self._vm, self._auth, "vmpower-", ".out")
        return path

    def delete(self, path: str) -> None:
        """DeleteFileInGuest."""
        self.files.DeleteFileInGuest(self._vm, self._auth, path)

    def transfer(self, path: str) -> Any:
        """InitiateFileTransferFromGuest."""
        return self.files.InitiateFileTransferFromGuest(self._vm, self._auth, path)

    def read(self, path: str) -> bytes:
        """A file's content, from where vCenter says."""
        trust = self._stub.schemeArgs["context"]
        url = self.transfer(path).url.replace("*:", "127.0.0.1:")
        with urllib.request.urlopen(url, context=trust) as answer:
            content: bytes = answer.read()
            return content


class Following:
    """Properties of all VMs below a place, as a collector tells them: `values` by managed object ids."""

    def __init__(self, content: Any, paths: list[str], below: Any = None) -> None:
        query = vmodl.query.PropertyCollector
        self._collector = content.propertyCollector.CreatePropertyCollector()
        view = content.viewManager.CreateContainerView(below or content.rootFolder, [vim.VirtualMachine], True)
        step = query.TraversalSpec(name="view", path="view", skip=False, type=vim.view.ContainerView)
        start = query.ObjectSpec(obj=view, skip=True, selectSet=[step])
        wanted = query.PropertySpec(type=vim.VirtualMachine, pathSet=paths)
        self._collector.CreateFilter(query.FilterSpec(objectSet=[start], propSet=[wanted]), partialUpdates=False)
        self._version = ""
        self.values: dict[str, dict[str, Any]] = {}
        self.turn()

    def turn(self, seconds: float = 30) -> None:
        """Wait for the next update, and take it over."""
        while True:
            options = vmodl.query.PropertyCollector.WaitOptions(maxWaitSeconds=int(seconds))
            update = self._collector.WaitForUpdatesEx(self._version, options)
            if update is None:
                raise TimeoutError(f"nothing changed for {seconds} s: {self.values}")
            self._version = update.version
            for change in (change for part in update.filterSet for change in part.objectSet):
                self._take(change)
            if not update.truncated:
                return

    def until(self, moid: str, path: str, value: object, timeout: float = 30) -> float:
        """Turn until a property has that value; the time (`time.time()`) when that was told."""
        while self.values.get(moid, {}).get(path) != value:
            self.turn(timeout)
        return time.time()

    def _take(self, change: Any) -> None:
        moid = change.obj._moId
        if change.kind == "leave":
            del self.values[moid]
            return
        known = self.values.setdefault(moid, {})
        for part in change.changeSet:
            known[part.name] = part.val
