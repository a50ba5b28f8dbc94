"""Where TLS may be left out; and with it, certificates that are renewed under a real server."""

import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from weakref import ReferenceType, ref

import grpc
import pytest
import trustme

from client import channel
from client.channel import Pem, Tls
from client.errors import ProviderError
from client.power import PowerClient
from protos.power.v1 import power_pb2 as pb
from providers.server import server
from tests.unit.client.fake_provider import FakeProvider, serving


def test_an_address_beyond_this_machine_needs_tls() -> None:
    with pytest.raises(ValueError, match="needs mutual TLS"):
        PowerClient("vm.example.com:1", None)


def test_an_address_without_a_port_is_none() -> None:
    with pytest.raises(ValueError, match="localhost: must be unix:///path, or host:port"):
        PowerClient("localhost")


class Files:
    """A client's PEM files, and the authorities of both sides."""

    def __init__(self, folder: Path) -> None:
        self.servers, self.clients = trustme.CA(), trustme.CA()
        self.tls = Tls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
        self.servers.cert_pem.write_to_path(self.tls.ca)
        self.renew(self.clients)

    def renew(self, authority: trustme.CA) -> None:
        """Replace the certificate and the key, as a secret that is mounted does."""
        made = authority.issue_cert("alice@example.com")
        for file, content in ((self.tls.cert, made.cert_chain_pems[0]), (self.tls.key, made.private_key_pem)):
            fresh = file.with_suffix(".new")
            fresh.write_bytes(content.bytes())
            fresh.rename(file)

    def server(self, name: str = "localhost") -> grpc.ServerCredentials:
        made = self.servers.issue_cert(name)
        pair = (made.private_key_pem.bytes(), made.cert_chain_pems[0].bytes())
        return grpc.ssl_server_credentials([pair], self.clients.cert_pem.bytes(), require_client_auth=True)


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
async def address(fake: FakeProvider, files: Files, tmp_path: Path) -> AsyncIterator[str]:
    async with serving(fake, tmp_path, files.server()) as address:
        yield address


async def version(client: PowerClient) -> str:
    return (await client.call(pb.GetProviderInfoRequest())).version


async def test_both_sides_prove_who_they_are(address: str, files: Files) -> None:
    async with PowerClient(address, files.tls) as client:
        assert await version(client) == "7"


async def test_a_client_of_another_authority_is_turned_away(address: str, files: Files) -> None:
    files.renew(trustme.CA())
    async with PowerClient(address, files.tls) as client:
        with pytest.raises(ProviderError) as caught:
            await version(client)
    assert caught.value.connection_failed


async def test_the_servers_certificate_may_bear_another_name(fake: FakeProvider, files: Files, tmp_path: Path) -> None:
    async with serving(fake, tmp_path, files.server("vmpower.example.com")) as address:
        named = Tls(files.tls.ca, files.tls.cert, files.tls.key, "vmpower.example.com")
        async with PowerClient(address, named) as client:
            assert await version(client) == "7"
        async with PowerClient(address, files.tls) as client:
            with pytest.raises(ProviderError):
                await version(client)


async def test_a_call_after_a_renewal_uses_the_new_certificate(address: str, files: Files) -> None:
    good, files.clients = files.clients, trustme.CA()
    files.renew(files.clients)
    async with PowerClient(address, files.tls) as client:
        with pytest.raises(ProviderError):
            await version(client)
        files.renew(good)
        assert await version(client) == "7"


async def test_a_stream_goes_on_through_a_renewal(address: str, fake: FakeProvider, files: Files) -> None:
    async with PowerClient(address, files.tls) as client:
        changes = client.stream(pb.WatchOperationRequest(id="op-1"))
        fake.steps.put_nowait(pb.Operation(id="op-1", state=pb.OPERATION_STATE_PENDING))
        assert (await anext(changes)).state == pb.OPERATION_STATE_PENDING
        files.renew(files.clients)
        assert await version(client) == "7"
        fake.steps.put_nowait(pb.Operation(id="op-1", state=pb.OPERATION_STATE_SUCCEEDED))
        assert [change.state async for change in changes] == [pb.OPERATION_STATE_SUCCEEDED]


async def test_closing_the_client_ends_also_a_stream_over_an_old_channel(
    address: str, fake: FakeProvider, files: Files
) -> None:
    client = PowerClient(address, files.tls)
    changes = client.stream(pb.WatchOperationRequest(id="op-1"))
    fake.steps.put_nowait(pb.Operation(id="op-1", state=pb.OPERATION_STATE_PENDING))
    await anext(changes)
    files.renew(files.clients)
    await version(client)
    await client.close()
    with pytest.raises(ProviderError) as caught:
        await anext(changes)
    assert caught.value.code == "UNAVAILABLE"


async def test_a_stream_that_breaks_after_a_renewal_is_opened_with_the_new_certificate(
    fake: FakeProvider, files: Files, tmp_path: Path
) -> None:
    old = files.clients
    async with serving(fake, tmp_path, files.server()) as address:
        client = PowerClient(address, files.tls)
        changes = client.watch_operation("op-1")
        fake.steps.put_nowait(pb.Operation(id="op-1", state=pb.OPERATION_STATE_PENDING))
        await anext(changes)
    files.clients = trustme.CA()
    files.renew(files.clients)
    fake.steps.put_nowait(pb.Operation(id="op-1", state=pb.OPERATION_STATE_SUCCEEDED))
    async with serving(fake, tmp_path, files.server(), address), client:
        assert files.clients is not old
        assert [change.state async for change in changes] == [pb.OPERATION_STATE_SUCCEEDED]


async def test_the_old_channel_is_closed_when_nothing_uses_it(
    address: str, fake: FakeProvider, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ReferenceType[grpc.aio.Channel]] = []
    secure_channel = grpc.aio.secure_channel

    def remember(*arguments: Any) -> grpc.aio.Channel:
        opened = secure_channel(*arguments)
        made.append(ref(opened))
        return opened

    monkeypatch.setattr(grpc.aio, "secure_channel", remember)
    async with PowerClient(address, files.tls) as client:
        changes = client.stream(pb.WatchOperationRequest(id="op-1"))
        fake.steps.put_nowait(pb.Operation(id="op-1", state=pb.OPERATION_STATE_PENDING))
        await anext(changes)
        files.renew(files.clients)
        await version(client)
        gc.collect()
        assert [bool(each()) for each in made] == [True, True]
        await changes.aclose()
        gc.collect()
        assert [bool(each()) for each in made] == [False, True]


async def test_in_the_middle_of_a_renewal_the_old_certificate_serves(address: str, files: Files) -> None:
    async with PowerClient(address, files.tls) as client:
        await version(client)
        files.tls.key.unlink()
        assert await version(client) == "7"


async def test_a_file_that_cannot_be_read_is_named(files: Files) -> None:
    files.tls.ca.unlink()
    async with PowerClient("vm.example.com:1", files.tls) as client:
        with pytest.raises(ProviderError, match=r"ca\.pem") as caught:
            await version(client)
    assert (caught.value.code, caught.value.reason) == ("FAILED_PRECONDITION", "TLS_FILE_UNREADABLE")


async def test_a_file_that_is_no_pem_is_named(files: Files) -> None:
    files.tls.ca.write_text("no PEM")
    async with PowerClient("vm.example.com:1", files.tls) as client:
        with pytest.raises(ProviderError, match=r"ca\.pem has no certificate in PEM") as caught:
            await version(client)
    assert (caught.value.code, caught.value.reason) == ("FAILED_PRECONDITION", "TLS_FILE_UNREADABLE")


async def test_a_certificate_whose_key_is_not_yet_renewed_leaves_the_old_connection_serving(
    address: str, files: Files
) -> None:
    async with PowerClient(address, files.tls) as client:
        await version(client)
        old = files.tls.key.read_bytes()
        files.renew(files.clients)
        files.tls.key.write_bytes(old)
        assert await version(client) == "7"


async def test_a_client_that_is_closed_says_so(address: str, files: Files) -> None:
    client = PowerClient(address, files.tls)
    await version(client)
    await client.close()
    with pytest.raises(ProviderError) as caught:
        await version(client)
    assert caught.value.reason == "CLIENT_CLOSED"


def test_a_silent_stream_notices_a_lost_host_within_five_seconds_and_pings_no_more_than_a_server_allows() -> None:
    options = dict(channel.OPTIONS)
    for timeout in ("grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms"):
        assert options["grpc.keepalive_time_ms"] + options[timeout] <= 5_000
    assert options["grpc.keepalive_time_ms"] > dict(server.OPTIONS)["grpc.http2.min_ping_interval_without_data_ms"]
    assert options["grpc.http2.max_pings_without_data"] == 0


async def test_a_localhost_that_is_another_machine_is_not_spoken_to_without_tls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("client.channel.strangers", lambda _address: ["192.0.2.1"])
    async with PowerClient("localhost:1") as client:
        with pytest.raises(ProviderError, match=r"localhost is 192\.0\.2\.1 here"):
            await client.call(pb.GetVMRequest(vm="1"))


async def test_what_was_read_elsewhere_proves_it_too_and_other_pem_counts_from_the_next_call(
    address: str, files: Files
) -> None:
    stranger, known = trustme.CA().issue_cert("eve@example.com"), files.clients.issue_cert("alice@example.com")
    authority = files.servers.cert_pem.bytes()

    def pem(made: trustme.LeafCert) -> Pem:
        return Pem(authority, made.cert_chain_pems[0].bytes(), made.private_key_pem.bytes())

    async with PowerClient(address, pem(stranger)) as client:
        with pytest.raises(ProviderError):
            await version(client)
        client.use(pem(known))
        assert await version(client) == "7"


def test_a_key_is_not_shown() -> None:
    assert "secret" not in repr(Pem(b"secret", b"secret", b"secret"))
