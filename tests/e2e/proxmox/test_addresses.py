"""The addresses that guests say they have, as Proxmox VE hands them on. Nothing is sent to any of them."""

import socket
from collections.abc import AsyncIterator

import pytest

from protos.power.v1 import power_pb2 as pb
from providers.proxmox.adapter import ProxmoxAdapter
from providers.proxmox.config import ProxmoxSettings
from tests.e2e.proxmox.served import served
from tests.rigs.proxmox.cluster import Cluster
from tests.rigs.proxmox.provider import flags

GUESTS: dict[str, dict[str, object]] = {"web": {"agent": "answers"}, "ct": {"kind": "lxc"}}


@pytest.fixture
async def adapter() -> AsyncIterator[ProxmoxAdapter]:
    with Cluster(GUESTS) as cluster:
        settings = ProxmoxSettings.load("proxmox", [*flags(cluster), "--listen=unix:///nowhere"])
        adapter = ProxmoxAdapter(settings)
        yield adapter
        await adapter.close()


async def ids(adapter: ProxmoxAdapter) -> dict[str, str]:
    return {vm.name: vm.id for vm in await adapter.list()}


async def test_an_agent_tells_those_of_all_its_interfaces(adapter: ProxmoxAdapter) -> None:
    assert await adapter.guest_addresses((await ids(adapter))["web"]) == ("127.0.0.1", "192.0.2.10", "2001:db8::10")


async def test_a_containers_node_tells_those_of_the_container(adapter: ProxmoxAdapter) -> None:
    told = await adapter.guest_addresses((await ids(adapter))["ct"])
    assert all(address.count(".") == 3 or ":" in address for address in told)
    assert told


async def test_a_read_does_not_ask_for_addresses(adapter: ProxmoxAdapter) -> None:
    vm = await adapter.get((await ids(adapter))["web"])
    assert (vm.addresses, vm.guest_addresses) == ((), ())


def test_a_hook_is_not_sent_where_a_guest_only_says_that_it_is() -> None:
    """Its agent says that it is 127.0.0.1, which the operator has even named."""
    with socket.create_server(("127.0.0.1", 0)) as listener, served({"web": {}}, "--guest-networks=127.0.0.0/8") as it:
        listener.setblocking(False)
        get = pb.HttpGetHook(url=f"http://:{listener.getsockname()[1]}/drain")
        (hook,) = it.calls.end(it.shutdown("web", pre_stop=[pb.Hook(http_get=get)])).verdict.hooks
        assert (hook.state, "no address that a hook may call" in hook.output) == (pb.HOOK_STATE_FAILED, True)
        with pytest.raises(BlockingIOError):
            listener.accept()
