"""Against a real server on a real socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.protobuf.duration_pb2 import Duration

from client import channel
from client.errors import ProviderError
from controller import client as module
from controller.client import ProviderClient
from controller.convert import power_on_request, shutdown_request
from controller.models import Runtime, SecretRef, Tls
from controller.source import SecretUnavailable, TlsSecret
from protos.power.v1 import power_pb2 as pb
from tests.unit.client.fake_provider import FakeProvider, serving
from tests.unit.controller.builders import NOW, machine


class Following:
    """A client that runs, and what it told."""

    def __init__(self, endpoint: str, tls: Tls | None = None) -> None:
        self.news: asyncio.Queue[set[str] | None] = asyncio.Queue()
        self.client = ProviderClient(Runtime(endpoint=endpoint, tls=tls), self.news.put_nowait)

    async def told(self, condition: Callable[[ProviderClient], object]) -> None:
        """Wait for news after which the condition holds."""
        async with asyncio.timeout(20):
            while not condition(self.client):
                await self.news.get()


@asynccontextmanager
async def following(endpoint: str, tls: Tls | None = None) -> AsyncIterator[Following]:
    follower = Following(endpoint, tls)
    task = asyncio.create_task(follower.client.run())
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await follower.client.close()


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
async def live(fake: FakeProvider, tmp_path: Path) -> AsyncIterator[Following]:
    """A client of `fake` that has its first snapshot."""
    async with serving(fake, tmp_path / "p.sock") as address, following(address) as follower:
        await follower.told(lambda client: client.reachable)
        yield follower


def power(client: ProviderClient, name: str = "web") -> "pb.PowerState.ValueType | None":
    found = client.cache.find(name)
    return found.power_state if found else None


async def test_the_first_snapshot_is_whole_before_anything_is_told(live: Following) -> None:
    assert power(live.client) == pb.POWER_STATE_ON
    assert (live.client.info.version, len(live.client.cache)) == ("7", 1)


async def test_a_change_names_the_vm(fake: FakeProvider, live: Following) -> None:
    off = pb.VM(id="1", name="web", power_state=pb.POWER_STATE_OFF)
    fake.changes.put_nowait(pb.WatchVMsResponse(changed=off))
    assert await asyncio.wait_for(anext_but(None, live.news), 10) == {"1", "web"}
    assert power(live.client) == pb.POWER_STATE_OFF


async def anext_but(unwanted: object, news: asyncio.Queue[Any]) -> object:
    while (said := await news.get()) == unwanted:
        pass
    return said


async def test_a_hypervisor_that_is_away_for_longer_than_a_restart_is_told_and_so_is_its_return(
    fake: FakeProvider, live: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GIVE_UP_AFTER", 0.1)
    fake.changes.put_nowait(pb.WatchVMsResponse(hypervisor_connected=False))
    await live.told(lambda client: client.hypervisor_problem)
    assert live.client.reachable
    fake.changes.put_nowait(pb.WatchVMsResponse(hypervisor_connected=True))
    await live.told(lambda client: not client.hypervisor_problem)


async def test_a_hypervisor_that_is_back_at_once_is_not_told(fake: FakeProvider, live: Following) -> None:
    for connected in (False, True):
        fake.changes.put_nowait(pb.WatchVMsResponse(hypervisor_connected=connected))
    fake.changes.put_nowait(pb.WatchVMsResponse(removed="1"))
    assert await asyncio.wait_for(anext_but(None, live.news), 10) == {"1", "web"}
    assert not live.client.hypervisor_problem


async def test_a_provider_that_answers_and_reaches_no_hypervisor_is_told_from_one_that_is_away(
    fake: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GIVE_UP_AFTER", 0.1)
    fake.without_hypervisor = True
    async with serving(fake, tmp_path / "p.sock") as address, following(address) as follower:
        await follower.told(lambda client: client.reachable is False)
        assert "no hypervisor" in follower.client.hypervisor_problem


async def test_a_vm_that_is_removed_is_gone(fake: FakeProvider, live: Following) -> None:
    fake.changes.put_nowait(pb.WatchVMsResponse(removed="1"))
    await live.told(lambda client: power(client) is None)


async def test_a_watch_that_ends_is_begun_anew_with_a_new_snapshot(fake: FakeProvider, live: Following) -> None:
    fake.vms = [pb.VM(id="2", name="db", power_state=pb.POWER_STATE_ON)]
    fake.changes.put_nowait(None)
    await live.told(lambda client: power(client, "db"))
    assert power(live.client) is None
    assert live.client.reachable


async def test_a_provider_that_comes_back_is_found_again(fake: FakeProvider, tmp_path: Path) -> None:
    socket = tmp_path / "p.sock"
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(AsyncExitStack())
        follower = await stack.enter_async_context(following(await server.enter_async_context(serving(fake, socket))))
        await follower.told(lambda client: client.reachable)
        await server.aclose()
        fake.vms = [pb.VM(id="2", name="db", power_state=pb.POWER_STATE_ON)]
        await stack.enter_async_context(serving(fake, socket))
        await follower.told(lambda client: power(client, "db"))


async def test_a_socket_nobody_listens_on_is_told_with_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GIVE_UP_AFTER", 0.1)
    async with following(f"unix://{tmp_path}/nobody.sock") as follower:
        assert follower.client.reachable is None
        await follower.told(lambda client: client.reachable is False)
        assert "nobody.sock" in follower.client.problem


async def test_a_shutdown_carries_all_that_the_lifecycle_says(fake: FakeProvider, live: Following) -> None:
    lifecycle = machine(
        gracefulShutdownTimeout="2m",
        escalation="Ask",
        preStop={"exec": {"command": ["/bin/stop"]}, "timeout": "5s", "failurePolicy": "Abort"},
        signalPolicy={"order": ["ACPI"], "resendInterval": "0s"},
    ).spec.lifecycle
    operation = await live.client.call(shutdown_request("1", lifecycle, "uid-1-1", NOW))
    (request,) = fake.requests
    assert (operation.id, operation.state) == ("op-1", pb.OPERATION_STATE_PENDING)
    assert (request.vm, request.request_id, request.timeout.seconds) == ("1", "uid-1-1", 120)
    assert (request.escalation, request.force_after.ToDatetime(NOW.tzinfo)) == (pb.ESCALATION_ASK, NOW)
    assert request.pre_stop[0].failure_policy == pb.FAILURE_POLICY_ABORT
    assert request.signal_policy.order == [pb.SIGNAL_ACPI]


async def test_each_call_reaches_its_method(fake: FakeProvider, live: Following) -> None:
    lifecycle = machine(postStart={"snapshot": {}}).spec.lifecycle
    await live.client.call(power_on_request("1", lifecycle, "r-1"))
    await live.client.call(pb.PowerOffRequest(vm="1", request_id="r-2"))
    await live.client.call(pb.ExtendOperationRequest(id="op-1", timeout=Duration(seconds=90)))
    await live.client.call(pb.ForceOperationRequest(id="op-1"))
    await live.client.call(pb.CancelOperationRequest(id="op-1"))
    assert [type(request).__name__ for request in fake.requests] == [
        "PowerOnRequest", "PowerOffRequest", "ExtendOperationRequest", "ForceOperationRequest",
        "CancelOperationRequest",
    ]  # fmt: skip
    assert fake.requests[2].timeout.seconds == 90


async def test_an_operation_is_followed_to_its_end(fake: FakeProvider, live: Following) -> None:
    for state in (pb.OPERATION_STATE_WAITING_FOR_GUEST, pb.OPERATION_STATE_SUCCEEDED):
        fake.steps.put_nowait(pb.Operation(id="op-1", state=state))
    states = [operation.state async for operation in live.client.stream(pb.WatchOperationRequest(id="op-1"))]
    assert states == [pb.OPERATION_STATE_WAITING_FOR_GUEST, pb.OPERATION_STATE_SUCCEEDED]


async def test_an_operation_that_does_not_exist_is_an_error(fake: FakeProvider, live: Following) -> None:
    fake.refuse(grpc.StatusCode.NOT_FOUND, "OPERATION_NOT_FOUND", "there is none")
    with pytest.raises(ProviderError) as caught:
        async for _ in live.client.stream(pb.WatchOperationRequest(id="op-1")):
            pass
    assert caught.value.reason == "OPERATION_NOT_FOUND"


async def test_a_vm_is_read_anew(fake: FakeProvider, live: Following) -> None:
    fake.vms = [pb.VM(id="1", name="web", power_state=pb.POWER_STATE_OFF)]
    await live.client.refresh("1")
    assert power(live.client) == pb.POWER_STATE_OFF
    fake.vms = []
    await live.client.refresh("1")
    assert power(live.client) is None


async def test_a_call_before_there_is_a_connection_is_unavailable() -> None:
    early = ProviderClient(Runtime(endpoint="unix:///nowhere.sock"), lambda _: None)
    with pytest.raises(ProviderError) as caught:
        await early.call(pb.PowerOffRequest(vm="1", request_id="r"))
    assert caught.value.connection_failed


async def test_certificates_that_cannot_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GIVE_UP_AFTER", 0.1)
    missing = Tls(ca_file=f"{tmp_path}/ca.pem", cert_file=f"{tmp_path}/c.pem", key_file=f"{tmp_path}/k.pem")
    async with following("localhost:1", missing) as follower:
        await follower.told(lambda client: client.reachable is False)
        assert "ca.pem" in follower.client.problem


# TLS from a Secret


class Secrets:
    """Reads of a Provider's Secret."""

    def __init__(self, *answers: TlsSecret | Exception) -> None:
        self.answers, self.reads = [*answers], 0

    async def read(self) -> TlsSecret:
        self.reads += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def secured(secrets: Secrets) -> ProviderClient:
    runtime = Runtime(endpoint="p.example:1", tls=Tls(secret_ref=SecretRef(name="tls")))
    client = ProviderClient(runtime, lambda _: None)
    client.read_tls = secrets.read
    return client


SECRET = TlsSecret(b"ca", b"cert", b"key")


@pytest.mark.looptime
async def test_a_secret_is_read_for_new_connections_at_most_once_a_minute() -> None:
    secrets = Secrets(SECRET)
    client = secured(secrets)
    for pause in (0, 30, 29, 2):
        await asyncio.sleep(pause)
        await client.prepare()
    assert secrets.reads == 2


@pytest.mark.looptime
async def test_a_secret_that_cannot_be_read_is_the_problem_and_is_asked_for_again_after_a_while() -> None:
    secrets = Secrets(SecretUnavailable("Secret a/tls needs tls.key."), SECRET)
    client = secured(secrets)
    for _ in range(3):
        with pytest.raises(ProviderError, match=r"needs tls\.key"):
            await client.prepare()
    assert secrets.reads == 1
    await asyncio.sleep(11)
    await client.prepare()
    assert secrets.reads == 2


async def test_the_controllers_own_certificate_is_shown_where_the_provider_asks_for_it(
    fake: FakeProvider, tmp_path: Path
) -> None:
    authority = trustme.CA()
    server, mine = authority.issue_cert("localhost"), authority.issue_cert("controller@example.com")
    own = channel.Tls(tmp_path / "ca", tmp_path / "cert", tmp_path / "key")
    authority.cert_pem.write_to_path(own.ca)
    mine.cert_chain_pems[0].write_to_path(own.cert)
    mine.private_key_pem.write_to_path(own.key)
    pair = (server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())
    credentials = grpc.ssl_server_credentials([pair], authority.cert_pem.bytes(), require_client_auth=True)
    async with serving(fake, tmp_path, credentials) as address:
        client = ProviderClient(Runtime(endpoint=address, tls=Tls(controller_certificate=True)), lambda _: None, own)
        assert (await client.call(pb.GetProviderInfoRequest())).version == "7"
        await client.close()


# For whom


@pytest.mark.parametrize(("may", "said"), [(True, "VirtualMachine a/web"), (False, "")])
async def test_for_whom_it_asks_is_said_where_the_provider_lets_it(
    monkeypatch: pytest.MonkeyPatch, may: bool, said: str
) -> None:
    client, sent = ProviderClient(Runtime(endpoint="unix:///p"), lambda _: None), list[pb.PowerOffRequest]()

    async def call(request: pb.PowerOffRequest) -> pb.Operation:
        sent.append(request)
        return pb.Operation()

    monkeypatch.setattr(client, "call", call)
    client.info = pb.GetProviderInfoResponse(on_behalf_of=may)
    await client.ask(pb.PowerOffRequest(vm="web"), "VirtualMachine a/web", "kernel update")
    assert (sent[0].on_behalf_of, sent[0].reason) == (said, "kernel update")


async def test_a_provider_without_an_endpoint_is_not_called_and_says_what_to_write() -> None:
    async with AsyncExitStack() as stack:
        news = list[set[str] | None]()
        client = await stack.enter_async_context(ProviderClient(Runtime(), news.append))
        await client.run()
    assert (client.reachable, client.reason, news) == (False, "NoEndpoint", [None])
    assert "write its gRPC target there" in client.problem
