from typing import Any

import pytest

from controller.pool import Pool
from controller.source import Key, key_of
from tests.unit.controller.builders import machine, provider
from tests.unit.controller.fakes import FakeClient

pytestmark = pytest.mark.looptime

LOCAL = Key("Provider", "default", "local")
WEB = Key("VirtualMachine", "default", "web")


class Connected:
    """A pool, the clients it made, and whom it woke."""

    def __init__(self) -> None:
        self.clients: list[FakeClient] = []
        self.woken: list[Key] = []
        self.soon: list[Key] = []
        self.pool = Pool(self._connect, self.woken.append, self.soon.append)

    def _connect(self, runtime: Any, changed: Any) -> FakeClient:
        self.clients.append(FakeClient().connect(runtime, changed))
        return self.clients[-1]


async def test_news_of_a_vm_wake_whoever_names_it_by_id_or_name() -> None:
    it = Connected()
    await it.pool.apply(provider())
    by_name, by_id = machine(name="web"), machine(name="b", spec={"vmName": "id-web"})
    for resource in (by_name, by_id, machine(name="other")):
        it.pool.declare(key_of(resource), resource)
    it.clients[0].changed({"web", "id-web"})
    assert set(it.woken) == {key_of(by_name), key_of(by_id)}
    await it.pool.close()


async def test_news_of_the_connection_wake_all_its_vms_and_the_provider() -> None:
    it = Connected()
    await it.pool.apply(provider())
    it.pool.declare(WEB, machine())
    it.clients[0].changed(None)
    assert set(it.woken) == {WEB, LOCAL}
    await it.pool.close()


async def test_a_vm_that_names_another_vm_now_is_woken_for_that_one() -> None:
    it = Connected()
    await it.pool.apply(provider())
    it.pool.declare(WEB, machine())
    it.pool.declare(WEB, machine(spec={"vmName": "www"}))
    it.clients[0].changed({"web"})
    assert it.woken == []
    it.clients[0].changed({"www"})
    assert it.woken == [WEB]
    await it.pool.close()


async def test_another_address_is_another_connection_and_other_changes_are_not() -> None:
    it = Connected()
    await it.pool.apply(provider())
    await it.pool.apply(provider())
    assert len(it.clients) == 1
    await it.pool.apply(provider(endpoint="unix:///run/other.sock"))
    assert len(it.clients) == 2
    await it.pool.close()


async def test_a_provider_is_woken_soon_when_its_counts_may_differ() -> None:
    it = Connected()
    await it.pool.apply(provider())
    it.pool.declare(WEB, machine())
    it.pool.withdraw(WEB)
    assert (it.soon, it.pool.declared(LOCAL)) == ([LOCAL, LOCAL], 0)
    it.clients[0].changed({"web"})  # its status says that there is no VM yet
    assert it.soon == [LOCAL, LOCAL, LOCAL]
    await it.pool.close()


async def test_a_provider_of_another_namespace_can_be_named() -> None:
    it = Connected()
    shared = provider().model_copy(update={"metadata": provider().metadata.model_copy(update={"namespace": "infra"})})
    await it.pool.apply(shared)
    it.pool.declare(WEB, machine(spec={"providerRef": {"name": "local", "namespace": "infra"}}))
    assert (found := it.pool.connection_of(WEB)) and found.client is it.clients[0]
    await it.pool.remove(key_of(shared))
    assert it.pool.connection_of(WEB) is None
