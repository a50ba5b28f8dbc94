from typing import Any

import pytest

from controller.models import Runtime
from controller.pool import Pool
from controller.source import Key, SecretUnavailable, SourceError, TlsSecret, key_of
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


async def test_what_was_declared_stays_known_when_nothing_is_followed_any_more() -> None:
    it = Connected()
    await it.pool.apply(provider())
    await it.pool.close()
    assert (it.clients[0].watchers, it.pool.providers()) == (0, [provider()])


class Certificates:
    """Where a pool reads its certificates."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.pool = Pool(FakeClient().connect, lambda _: None, lambda _: None, read_tls=self._read)

    async def _read(self, namespace: str, name: str) -> TlsSecret:
        if self.failure:
            raise self.failure
        return TlsSecret(b"ca", b"cert", b"key")

    async def read(self) -> TlsSecret:
        secured = {"endpoint": "192.0.2.1:50051", "tls": {"secretRef": {"name": "tls"}}}
        declared = provider()
        runtime = Runtime.model_validate(secured)
        spec = declared.spec.model_copy(update={"runtime": runtime})
        client = self.pool.open(declared.model_copy(update={"spec": spec}))
        assert client.read_tls is not None
        return await client.read_tls()


async def test_a_certificate_that_cannot_be_read_now_is_as_it_was() -> None:
    it = Certificates()
    known = await it.read()
    it.failure = SourceError("The API server does not answer.")
    assert await it.read() is known


async def test_one_that_was_never_read_or_is_gone_is_none() -> None:
    it = Certificates()
    it.failure = SourceError("The API server does not answer.")
    with pytest.raises(SourceError):
        await it.read()
    it.failure = None
    await it.read()
    it.failure = SecretUnavailable("it is gone")
    with pytest.raises(SecretUnavailable):
        await it.read()
