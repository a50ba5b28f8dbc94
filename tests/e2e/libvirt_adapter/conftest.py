"""An adapter, real guests under a libvirtd of their own, and what a watch yields."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import libvirt
import pytest

from providers.libvirt.adapter import LibvirtAdapter
from providers.libvirt.config import LibvirtSettings
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd


@pytest.fixture(scope="module")
def rig() -> Iterator[Libvirtd]:
    with Libvirtd() as rig:
        yield rig


@pytest.fixture
async def adapter(rig: Libvirtd, tmp_path: Path) -> AsyncIterator[LibvirtAdapter]:
    adapter = LibvirtAdapter(LibvirtSettings(listen="unix:///unused", uri=rig.uri, state_dir=tmp_path))
    yield adapter
    await adapter.close()


@pytest.fixture
def run(rig: Libvirtd) -> Iterator[Callable[..., str]]:
    """Starts guests; what is left of them afterwards is ended."""
    names = []

    def start(guest: Guest, *, transient: bool = False) -> str:
        names.append(guest.name)
        vm_id = rig.define(guest, start=True, transient=transient)
        rig.wait_ready(guest.name)
        return vm_id

    yield start
    with rig.connect() as connection:
        for domain in connection.listAllDomains():
            if domain.name() in names:
                with suppress(libvirt.libvirtError):
                    domain.destroy()
                with suppress(libvirt.libvirtError):
                    domain.undefineFlags(
                        libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                    )
