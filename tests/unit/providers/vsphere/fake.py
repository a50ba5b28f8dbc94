"""A vCenter that answers each method with what a test wants, and remembers what it was called with."""

from inspect import isawaitable
from pathlib import Path
from typing import Any

from pyVmomi import vim, vmodl

from providers.shared.tls import Trust, verifying
from providers.vsphere.config import VsphereSettings
from providers.vsphere.session import Link, Session
from providers.vsphere.stub import Stub

PC: Any = vmodl.query.PropertyCollector


USER = "VSPHERE.LOCAL\\vmpower"
"""The account that is logged in."""


class FakeStub(Stub):
    """Everything that would be sent comes here."""

    def __init__(self) -> None:
        super().__init__("https://vcenter.example/sdk", None, verifying(Trust(insecure=True)))  # type: ignore[arg-type]
        self.answers: dict[str, Any] = {}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    async def InvokeMethod(self, mo: Any, info: Any, args: Any) -> Any:  # noqa: N802 - pyvmomi's
        """Raise the answer, call it, await it, or return it; a list has one for each call."""
        self.SerializeRequest(mo, info, args)  # type: ignore[no-untyped-call]  # what cannot be sent must not pass
        self.calls.append((info.wsdlName, tuple(args)))
        answer = self.answers.get(info.wsdlName)
        if isinstance(answer, list):
            answer = answer.pop(0)
        if callable(answer):
            answer = answer(*args)
        if isawaitable(answer):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def called(self, method: str) -> list[tuple[Any, ...]]:
        """The arguments of each call of a method."""
        return [args for name, args in self.calls if name == method]


def link(stub: FakeStub, url: str = "https://vcenter.example/sdk", thumbprint: str = "") -> Link:
    """A session on it."""
    content = vim.ServiceInstanceContent(
        rootFolder=vim.Folder("root", stub),
        propertyCollector=PC("collector", stub),
        viewManager=vim.view.ViewManager("views", stub),
        taskManager=vim.TaskManager("tasks", stub),
        eventManager=vim.event.EventManager("events", stub),
        guestOperationsManager=vim.vm.guest.GuestOperationsManager("guests", stub),
        searchIndex=vim.SearchIndex("search", stub),
        sessionManager=vim.SessionManager("sessions", stub),
        about=vim.AboutInfo(fullName="VMware vCenter Server 8.0.2"),
    )
    pins = (thumbprint,) if thumbprint else ()
    made = Link(url, stub, Trust(pins=pins, insecure=not thumbprint, flag="--thumbprint"), content, USER)
    files, processes = vim.vm.guest.FileManager("files", stub), vim.vm.guest.ProcessManager("processes", stub)
    made.kept["guests"] = (files, processes)
    return made


class OneSession(Session):
    """A session that is always there."""

    def __init__(self, made: Link) -> None:
        self._made = made
        super().__init__(
            VsphereSettings(listen="unix:///x", url="https://vcenter.example", credentials_dir=Path("/nowhere"))
        )

    async def link(self) -> Link:
        """The one that there is."""
        return self._made


def told(reference: Any, **properties: Any) -> Any:
    """What RetrievePropertiesEx says of an object; underscores stand for dots."""
    props = [vmodl.DynamicProperty(name=name.replace("_", "."), val=value) for name, value in properties.items()]
    return PC.RetrieveResult(objects=[PC.ObjectContent(obj=reference, propSet=props)])


def news(version: str, *updates: Any, truncated: bool = False) -> Any:
    """What WaitForUpdatesEx says."""
    changed = PC.FilterUpdate(filter=PC.Filter("filter", None), objectSet=list(updates))
    return PC.UpdateSet(version=version, filterSet=[changed], truncated=truncated)


def change(reference: Any, kind: str = "modify", **properties: Any) -> Any:
    """One object in it."""
    changes = [PC.Change(name=name.replace("_", "."), op="assign", val=value) for name, value in properties.items()]
    return PC.ObjectUpdate(kind=kind, obj=reference, changeSet=changes)
