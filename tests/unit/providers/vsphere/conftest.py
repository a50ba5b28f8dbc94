"""An adapter on a vCenter that says what a test wants, and what its watch yields."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from providers.core.adapter import Change, Listed
from providers.vsphere import adapter as module
from providers.vsphere.adapter import VsphereAdapter
from providers.vsphere.config import VsphereSettings
from tests.unit.providers.https import Server
from tests.unit.providers.vsphere.fake import PC, FakeStub, OneSession, change, link, news, told

VM, TASK = vim.VirtualMachine("vm-1", None), vim.Task("task-1", None)
ID = "5012"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
OFF: dict[str, Any] = {"runtime_powerState": "poweredOff", "runtime_cleanPowerOff": True}
WEB: dict[str, Any] = {
    "name": "web",
    "config_instanceUuid": ID,
    "runtime_powerState": "poweredOn",
    "guest_toolsRunningStatus": "guestToolsRunning",
    "guest_guestStateChangeSupported": True,
}


class VCenter(FakeStub):
    """Tells its news when a test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.news: asyncio.Queue[Any] = asyncio.Queue()
        self.answers = {
            "CreatePropertyCollector": PC("collector-2", self),
            "CreateFilter": PC.Filter("filter-1", self),
            "CreateContainerView": lambda *_: vim.view.ContainerView("view-1", self),
            "WaitForUpdatesEx": self._next,
            "PowerOnVM_Task": TASK,
            "PowerOffVM_Task": TASK,
            "CreateSnapshot_Task": TASK,
            "RetrievePropertiesEx": told(VM, **WEB),
            "CurrentTime": NOW,
        }
        self.say(change(VM, "enter", **WEB))

    def say(self, *updates: Any) -> None:
        self.news.put_nowait(news("1", *updates))

    def task(self, state: str, **properties: Any) -> None:
        about = {"info_entity": VM, "info_descriptionId": "VirtualMachine.powerOff", "info_state": state} | properties
        self.say(change(TASK, "enter", **about))

    async def _next(self, *_: object) -> Any:
        return await self.news.get()


@pytest.fixture
def vcenter() -> VCenter:
    return VCenter()


@pytest.fixture
def adapter(vcenter: VCenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VsphereAdapter:
    monkeypatch.setattr(module, "Session", lambda _: OneSession(link(vcenter)))
    settings = VsphereSettings(listen="unix:///x", url="https://vcenter.example", credentials_dir=tmp_path)
    return VsphereAdapter(settings)


class Watch:
    """What a watch yields, followed in the background as the inventory does."""

    def __init__(self, changes: AsyncIterator[Change]) -> None:
        self.seen: asyncio.Queue[Change] = asyncio.Queue()
        self.following = asyncio.create_task(self._follow(changes))

    async def _follow(self, changes: AsyncIterator[Change]) -> None:
        async for one in changes:
            self.seen.put_nowait(one)

    async def next(self) -> Any:
        return await asyncio.wait_for(self.seen.get(), 30)


@pytest.fixture
async def watch(adapter: VsphereAdapter, vcenter: VCenter) -> AsyncIterator[Watch]:
    """Followed from its beginning; one VM is known."""
    async with aclosing(adapter.watch()) as changes:
        watch = Watch(changes)
        assert isinstance(await watch.next(), Listed)
        yield watch
        vcenter.say()
        watch.following.cancel()
        await asyncio.gather(watch.following, return_exceptions=True)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path)
    async with server.serving():
        yield server
