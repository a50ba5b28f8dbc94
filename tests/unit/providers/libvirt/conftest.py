"""A domain of libvirt's test driver, which lives in this process and is the same for all of its connections."""

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import libvirt
import pytest

from providers.libvirt.adapter import LibvirtAdapter
from providers.libvirt.config import LibvirtSettings
from providers.libvirt.session import start_event_loop

URI = "test:///default"


@pytest.fixture(scope="session")
def connection() -> Iterator[Any]:
    start_event_loop()
    connection = libvirt.open(URI)
    yield connection
    connection.close()


@pytest.fixture
def handle(connection: Any) -> Iterator[Any]:
    """A domain that is defined and off."""
    xml = f"<domain type='test'><name>{uuid4()}</name><memory>1024</memory><os><type>hvm</type></os></domain>"
    handle = connection.defineXML(xml)
    yield handle
    with suppress(libvirt.libvirtError):
        handle.destroy()
    with suppress(libvirt.libvirtError):
        handle.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)


@pytest.fixture
def vm_id(handle: Any) -> str:
    return str(handle.UUIDString())


@pytest.fixture
async def adapter(connection: Any, tmp_path: Path) -> AsyncIterator[LibvirtAdapter]:
    adapter = LibvirtAdapter(LibvirtSettings(listen="unix:///unused", uri=URI, state_dir=tmp_path))
    yield adapter
    await adapter.close()
