"""A vCenter with guests, and an adapter on it."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from providers.vsphere.adapter import VsphereAdapter
from providers.vsphere.config import VsphereSettings
from tests.rigs.vsphere.vcenter import VCenter

QUICK: dict[str, object] = {"boot_time": "100ms", "shutdown_time": "300ms"}
Settings = Callable[..., VsphereSettings]
Guest = Callable[..., str]
"""Adds a VM that behaves as the arguments say, and returns its id."""


@pytest.fixture(scope="module")
def vcenter() -> Iterator[VCenter]:
    with VCenter({"spare": QUICK}) as vcenter:
        yield vcenter


@pytest.fixture
def settings(vcenter: VCenter) -> Settings:
    """What an adapter is told, with changes."""

    def make(**changes: Any) -> VsphereSettings:
        required = {"listen": "unix:///unused", "url": vcenter.url, "credentials_dir": vcenter.credentials}
        trust = {} if {"thumbprint", "insecure", "ca_file"} & changes.keys() else {"ca_file": vcenter.ca}
        return VsphereSettings.model_validate(required | trust | changes)

    return make


@pytest.fixture
async def adapter(settings: Settings) -> AsyncIterator[VsphereAdapter]:
    adapter = VsphereAdapter(settings())
    yield adapter
    await adapter.close()


@pytest.fixture
def guest(vcenter: VCenter) -> Iterator[Guest]:
    """Guests for one test."""
    keys = list[str]()

    def add(key: str = "web", **behaviour: object) -> str:
        vcenter.add(key, **QUICK | behaviour)
        keys.append(key)
        return str(vcenter.show(key)["instance_uuid"])

    yield add
    for key in keys:
        vcenter.remove(key)
