"""HTTP hooks against a real server on loopback; nothing here is in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from providers.core.adapter import VM, PowerState
from providers.core.errors import CommandFailed
from providers.core.http_hook import AllowedResolver, as_address, get
from providers.core.inventory import Inventory
from providers.core.model import HttpGetHook, Kind, Operation, Request
from providers.core.run import Context, Run
from providers.core.settings import Settings
from tests.unit.providers.fakes import OneVM
from tests.unit.providers.world import EPOCH


class Site:
    """A server that remembers who came."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: dict[str, str] = {}
        self.port = 0

    async def handle(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        self.headers = dict(request.headers)
        if request.path == "/moved":
            raise web.HTTPFound("/secret")
        return web.Response(status=int(request.query.get("status", "200")))


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    application = web.Application()
    application.router.add_get("/{tail:.*}", site.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    tcp = web.TCPSite(runner, "127.0.0.1", 0)
    await tcp.start()
    site.port = runner.addresses[0][1]
    yield site
    await runner.cleanup()


async def call(
    url: str,
    allowed: tuple[str, ...] = (),
    addresses: tuple[str, ...] = (),
    claimed: tuple[str, ...] = (),
    networks: str = "",
    **hook: Any,
) -> int:
    """What a hook of a VM with these addresses, and these that its guest claims, gets."""
    vm = VM("1", "web", PowerState.ON, addresses=addresses, guest_addresses=claimed)
    adapter = OneVM(vm)
    inventory = Inventory(adapter)
    following = asyncio.create_task(inventory.run())
    await inventory.connected.wait()
    settings = Settings.model_validate(
        {
            "listen": "unix:///nowhere",
            "http_hook_hosts": allowed,
            "guest_networks": networks,
            "state_dir": Path("/nowhere"),
        }
    )
    context = Context(adapter, inventory, None, settings)  # type: ignore[arg-type] # nothing is journaled
    request = Request(kind=Kind.SHUTDOWN, vm_id="1", vm_name="web")
    run = Run(Operation(id="op", request=request, create_time=EPOCH, timeout=timedelta(seconds=60)), context)
    try:
        return await get(run, HttpGetHook(url=url, **hook))
    finally:
        following.cancel()


async def test_the_vms_own_address_may_be_called(site: Site) -> None:
    assert await call(f"http://127.0.0.1:{site.port}/drain", addresses=("127.0.0.1",)) == 200
    assert site.paths == ["/drain"]


async def test_the_status_is_told_as_it_is(site: Site) -> None:
    assert await call(f"http://127.0.0.1:{site.port}/?status=503", allowed=("127.0.0.1",)) == 503


async def test_headers_are_sent(site: Site) -> None:
    headers = {"X-Token": "s3cret"}
    url = f"http://127.0.0.1:{site.port}/"
    await call(url, allowed=("127.0.0.1",), headers=headers, header_names=("X-Token",))
    assert site.headers["X-Token"] == "s3cret"


async def test_headers_that_a_restart_lost_are_not_left_out_silently(site: Site) -> None:
    with pytest.raises(CommandFailed, match="did not survive"):
        await call(f"http://127.0.0.1:{site.port}/", allowed=("127.0.0.1",), header_names=("X-Token",))
    assert site.paths == []


async def test_a_redirect_is_not_followed(site: Site) -> None:
    assert await call(f"http://127.0.0.1:{site.port}/moved", allowed=("127.0.0.1",)) == 302
    assert site.paths == ["/moved"]


async def test_a_name_is_allowed_by_its_addresses(site: Site) -> None:
    assert await call(f"http://localhost:{site.port}/", allowed=("127.0.0.0/8",)) == 200


async def test_a_name_is_allowed_by_its_name(site: Site) -> None:
    assert await call(f"http://localhost:{site.port}/", allowed=("localhost",)) == 200


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "127.0.0.1.",
        "127.0.0.%31",
        "１２７.0.0.1",  # noqa: RUF001 - fullwidth digits, which IDNA makes into ordinary ones
        "user@127.0.0.1",
        "203.0.113.7@127.0.0.1",
        "0.0.0.0",
    ],
)
async def test_however_it_is_written_another_address_is_not_called(site: Site, host: str) -> None:
    with pytest.raises(CommandFailed):
        await call(f"http://{host}:{site.port}/", addresses=("203.0.113.7",))
    assert site.paths == []


async def test_a_refusal_says_who_can_allow_it() -> None:
    with pytest.raises(CommandFailed, match="not an address of this VM; the provider's operator can allow it"):
        await call("http://localhost:1/", addresses=("203.0.113.7",))


async def test_a_server_that_is_not_there_is_told_of_without_the_url() -> None:
    with pytest.raises(CommandFailed, match="could not be called") as failed:
        await call("http://127.0.0.1:1/?token=s3cret", allowed=("127.0.0.1",))
    assert "s3cret" not in failed.value.message


async def test_proxies_of_the_environment_are_not_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert await call(f"http://127.0.0.1:{site.port}/", allowed=("127.0.0.1",)) == 200


async def test_only_the_allowed_addresses_of_a_name_are_used() -> None:
    found = await AllowedResolver(("127.0.0.0/8",), ()).resolve("localhost", 80)
    assert {result["host"] for result in found} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "017700000001", "0x7f.1", "127.1", "0177.0.0.1", "127.0.0.1"]
)
def test_each_form_of_an_ipv4_address_is_seen_as_that_address(host: str) -> None:
    assert as_address(host) == "127.0.0.1"


@pytest.mark.parametrize("host", ["web", "web.example", "4294967296", "0x7g", "::1", "1.2.3.4.5", ""])
def test_a_name_stays_a_name(host: str) -> None:
    assert as_address(host) == host


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1"])
async def test_an_address_in_another_form_is_refused_as_an_address_and_not_asked_of_the_resolver(
    site: Site, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[str]()

    async def resolve(_self: Any, name: str, *_: Any) -> list[Any]:
        asked.append(name)
        return []

    monkeypatch.setattr("aiohttp.ThreadedResolver.resolve", resolve)
    with pytest.raises(CommandFailed, match=r"^127\.0\.0\.1 is not an address of this VM"):
        await call(f"http://{host}:{site.port}/")
    assert (asked, site.paths) == ([], [])


async def test_an_endless_answer_of_continue_ends_when_its_bytes_are_used_up() -> None:
    cut = asyncio.Event()

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
                await writer.drain()
        except ConnectionError:
            cut.set()
            writer.close()

    async with await asyncio.start_server(flood, "127.0.0.1", 0) as server, asyncio.timeout(10):
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(CommandFailed, match="could not be called"):
            await call(f"http://127.0.0.1:{port}/", allowed=("127.0.0.1",))
        await cut.wait()


async def test_a_long_body_does_not_take_the_status_away() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 9_000_000)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await call(f"http://127.0.0.1:{port}/", allowed=("127.0.0.1",)) == 200


async def test_a_url_without_a_host_is_that_of_the_vm(site: Site) -> None:
    assert await call(f"http://:{site.port}/drain", addresses=("127.0.0.1",)) == 200
    assert (site.paths, site.headers["Host"]) == (["/drain"], f"127.0.0.1:{site.port}")


async def test_the_vms_addresses_are_tried_until_one_takes_the_connection(site: Site) -> None:
    assert await call(f"http://:{site.port}/drain", addresses=("::1", "127.0.0.1")) == 200
    assert site.paths == ["/drain"]


class HangingUp:
    """Servers that read a request and close the connection, at these addresses and one port."""

    def __init__(self) -> None:
        self.calls = 0

    async def listen(self, address: str, port: int = 0) -> asyncio.Server:
        return await asyncio.start_server(self._hang_up, address, port)

    async def _hang_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        await reader.readline()
        writer.close()


async def test_a_call_that_was_sent_is_made_once_whatever_becomes_of_it() -> None:
    hanging = HangingUp()
    async with await hanging.listen("127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(CommandFailed, match="could not be called"):
            await call(f"http://127.0.0.1:{port}/drain", addresses=("127.0.0.1",))
    assert hanging.calls == 1


async def test_a_call_that_was_sent_is_not_made_again_at_another_address() -> None:
    hanging = HangingUp()
    async with await hanging.listen("127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        async with await hanging.listen("127.0.0.2", port):
            with pytest.raises(CommandFailed, match="could not be called"):
                await call(f"http://:{port}/drain", addresses=("127.0.0.1", "127.0.0.2"))
    assert hanging.calls == 1


async def test_without_an_address_a_url_without_a_host_says_who_can_change_that() -> None:
    with pytest.raises(CommandFailed, match=r"networks that the provider's operator names \(VMPOWER_GUEST_NETWORKS\)"):
        await call("http://:8080/drain", claimed=("203.0.113.7",))


@pytest.mark.parametrize("claimed", ["127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("host", ["", "127.0.0.1"])
async def test_a_guest_that_claims_loopback_is_not_called_there(site: Site, claimed: str, host: str) -> None:
    with pytest.raises(CommandFailed):
        await call(f"http://{host}:{site.port}/secret", claimed=(claimed,), networks="0.0.0.0/0, ::/0")
    assert site.paths == []


class Refusing:
    """A transport that notes where it would have connected to, and connects nowhere."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.targets: list[str] = []
        monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", self._connect)

    async def _connect(self, addr_infos: Any, **_: Any) -> Any:
        self.targets += [info[4][0] for info in addr_infos]
        raise OSError("this test connects nowhere")


@pytest.mark.parametrize("url", ["http://:8080/drain", "http://203.0.113.7:8080/drain"])
async def test_an_address_that_a_guest_claims_is_called_in_a_network_that_the_operator_names(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = Refusing(monkeypatch)
    with pytest.raises(CommandFailed, match="could not be called"):
        await call(url, claimed=("203.0.113.7",), networks="203.0.113.0/24")
    assert transport.targets == ["203.0.113.7"]


@pytest.mark.parametrize("networks", ["", "198.51.100.0/24"])
async def test_elsewhere_it_is_not_called(networks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = Refusing(monkeypatch)
    with pytest.raises(CommandFailed, match="not an address of this VM"):
        await call("http://203.0.113.7:8080/", claimed=("203.0.113.7",), networks=networks)
    assert transport.targets == []
