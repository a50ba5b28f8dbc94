"""A vCenter of which all has been asked that is asked at the beginning, so that calls can be counted from then on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from providers.vsphere.adapter import VsphereAdapter
from tests.e2e.following import Watch, watching
from tests.rigs.polling import poll
from tests.rigs.vsphere.vcenter import VCenter


def wait_settled(vcenter: VCenter) -> None:
    """Until the last of that has been asked since the calls were counted anew: what the account lacks."""
    poll(lambda: vcenter.calls().get("HasPrivilegeOnEntities"))


@asynccontextmanager
async def settled(adapter: VsphereAdapter) -> AsyncIterator[Watch]:
    """A watch that has listed all VMs, and beside which nothing is under way any more."""
    async with watching(adapter) as watch:
        assert adapter._looking
        await adapter._looking  # what the account lacks is not only asked, but answered: its connection is free
        yield watch
