import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import aiohttp
import pytest
import trustme
from aiohttp import web

from providers.proxmox import endpoint as module
from providers.proxmox.endpoint import Broken, Endpoint, Method, NotConnected
from providers.proxmox.errors import Refused
from providers.shared.tls import Verifying, verifying
from tests.unit.providers.proxmox.node import SECRET, TOKEN, Dead, Node, Silent, failure, settings

Get = Callable[..., Awaitable[object]]


class Ask(Protocol):
    """One call."""

    def __call__(self, method: Method = "GET") -> Awaitable[object]: ...


LOGIN = {"Authorization": f"PVEAPIToken={TOKEN}={SECRET}"}


def at(url: str, http: aiohttp.ClientSession, tls: Verifying, timeout: float = 30) -> Ask:
    """Asks a node, as a token."""
    endpoint = Endpoint(url, TOKEN, http, tls, LOGIN)
    return lambda method="GET": endpoint.call(method, "version", None, timeout)


@pytest.fixture
def ask(node: Node, http: aiohttp.ClientSession, tls: Verifying) -> Ask:
    return at(node.url, http, tls)


@pytest.fixture
def get(http: aiohttp.ClientSession, tmp_path: Path) -> Get:
    """Asks a node as these settings verify it."""

    async def get(url: str, **verified: object) -> object:
        return await at(url, http, verifying(settings(tmp_path, url, **verified).trust))()

    return get


# Certificates and the environment


async def test_a_certificate_of_the_named_ca_is_taken(get: Get, node: Node, ca_file: Path) -> None:
    assert await get(node.url, ca_file=ca_file) == "version"


async def test_a_certificate_of_a_ca_that_is_not_named_is_refused(get: Get, node: Node) -> None:
    with pytest.raises(NotConnected, match="does not verify, unable to get local issuer certificate: --ca-file"):
        await get(node.url)


async def test_a_certificate_of_another_name_is_refused(get: Get, authority: trustme.CA, ca_file: Path) -> None:
    other = Node(authority.issue_cert("pve1.example"))
    await other.start()
    with pytest.raises(NotConnected, match="not valid for '127"):
        await get(other.url, ca_file=ca_file)
    await other.stop()


async def test_a_certificate_of_another_ca_than_the_named_one_is_refused(get: Get, node: Node, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with pytest.raises(NotConnected, match="does not verify"):
        await get(node.url, ca_file=tmp_path / "other.pem")


async def test_a_ca_that_is_named_remains_the_only_one(
    node: Node, http: aiohttp.ClientSession, ca_file: Path, tmp_path: Path
) -> None:
    tls = verifying(settings(tmp_path, node.url, ca_file=ca_file).trust)
    await at(node.url, http, tls)()
    assert len(tls.get_ca_certs()) == 1


async def test_a_certificate_with_the_right_fingerprint_is_taken(get: Get, node: Node) -> None:
    digits = node.fingerprint.upper()
    colons = ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))
    assert await get(node.url, fingerprint=f"{'ab' * 32},{colons}") == "version"


async def test_a_certificate_with_another_fingerprint_is_refused_each_time(get: Get, node: Node) -> None:
    for _ in range(2):
        with pytest.raises(NotConnected, match="another fingerprint than --fingerprint"):
            await get(node.url, fingerprint="ab" * 32)


async def test_insecure_verifies_nothing(get: Get, node: Node) -> None:
    assert await get(node.url, insecure=True) == "version"


async def test_a_node_that_is_away_is_told_so(get: Get, dead: Dead) -> None:
    with pytest.raises(NotConnected, match=r"^Connection refused$"):
        await get(dead.url)


async def test_a_node_that_never_shakes_hands_is_told_so(
    get: Get, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.2)
    with pytest.raises(NotConnected, match=r"^it does not answer$"):
        await get(silent.url)


async def test_a_node_whose_name_is_not_known_is_told_so(get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    async def knows_none(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", knows_none)
    with pytest.raises(NotConnected, match=r"^Name or service not known$"):
        await get("https://pve1.invalid:8006")


async def test_a_node_that_ends_the_connection_at_once_is_told_so(get: Get) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    with pytest.raises(NotConnected, match=r"^(it ends the connection at once|Connection reset by peer)$"):
        await get(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    server.close()


async def test_a_server_without_tls_is_told_so(get: Get, certificate: trustme.LeafCert) -> None:
    plain = Node(certificate)
    await plain.start(tls=False)
    with pytest.raises(NotConnected, match="does not speak TLS"):
        await get(plain.url)
    await plain.stop()


def test_tls_is_at_least_1_2(tmp_path: Path) -> None:
    assert verifying(settings(tmp_path, "https://x").trust).minimum_version is ssl.TLSVersion.TLSv1_2


async def test_the_environment_names_no_proxy_for_us(
    get: Get, node: Node, ca_file: Path, dead: Dead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", dead.url)
    assert await get(node.url, ca_file=ca_file) == "version"


async def test_the_environment_has_no_password_for_us(
    get: Get, node: Node, ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login root password x")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    await get(node.url, ca_file=ca_file)
    assert node.asked[0].headers["Authorization"] == LOGIN["Authorization"]


async def test_the_environment_names_no_ca_for_us(
    get: Get, node: Node, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_file))
    with pytest.raises(NotConnected, match="does not verify"):
        await get(node.url)


# Answers


async def test_a_refusal_has_its_status_its_words_and_its_fields(node: Node, ask: Ask) -> None:
    async def verifies(_request: web.Request) -> web.StreamResponse:
        return failure(400, "Parameter verification failed.", {"timeout": "too long"})

    node.answer = verifies
    with pytest.raises(Refused) as refused:
        await ask()
    told = refused.value.status, refused.value.text, refused.value.fields
    assert told == (400, "Parameter verification failed.", {"timeout": "too long"})


async def test_a_refusal_without_json_has_no_fields(node: Node, ask: Ask) -> None:
    async def away(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=595, reason="No route to host")

    node.answer = away
    with pytest.raises(Refused) as refused:
        await ask()
    assert (refused.value.text, refused.value.fields) == ("No route to host", None)


@pytest.mark.parametrize("words", ["Gerät fehlt", "VM läuft nicht, fünf Platten fehlen"])
async def test_words_beyond_ascii_arrive_as_they_were_sent(node: Node, ask: Ask, words: str) -> None:
    async def fails(_request: web.Request) -> web.StreamResponse:
        return failure(500, words)

    node.answer = fails
    with pytest.raises(Refused) as refused:
        await ask()
    assert refused.value.text == words


async def test_words_that_are_no_utf8_are_kept(node: Node, ask: Ask) -> None:
    async def fails(request: web.Request) -> web.StreamResponse:
        assert request.transport
        request.transport.write("HTTP/1.1 500 Gerät fehlt\r\nContent-Length: 0\r\n\r\n".encode("latin-1"))
        return await node.cut(request)

    node.answer = fails
    with pytest.raises(Refused) as refused:
        await ask()
    assert refused.value.text == "Gerät fehlt"


async def test_words_may_be_many(node: Node, ask: Ask) -> None:
    async def fails(_request: web.Request) -> web.StreamResponse:
        return failure(500, "x" * 20_000)

    node.answer = fails
    with pytest.raises(Refused) as refused:
        await ask()
    assert refused.value.text == "x" * 20_000


@pytest.mark.parametrize("page", ["<html>It works!</html>", "[]", "{}"])
async def test_a_page_is_not_taken_for_an_answer(node: Node, ask: Ask, page: str) -> None:
    async def welcomes(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=page)

    node.answer = welcomes
    with pytest.raises(Broken, match="not Proxmox VE"):
        await ask()


async def test_no_redirect_is_followed(node: Node, ask: Ask) -> None:
    async def elsewhere(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=301, headers={"Location": f"{node.url}/api2/json/elsewhere"})

    node.answer = elsewhere
    with pytest.raises(Broken, match="sends us elsewhere"):
        await ask("POST")
    assert [asked.path for asked in node.asked] == ["version"]


# What is known of a failure


async def test_a_call_that_connects_to_no_node_was_not_sent(
    dead: Dead, http: aiohttp.ClientSession, tls: Verifying
) -> None:
    with pytest.raises(NotConnected):
        await at(dead.url, http, tls)("POST")


async def test_a_call_that_is_cut_may_have_been_done(node: Node, ask: Ask) -> None:
    node.answer = node.cut
    with pytest.raises(Broken, match=r"^the connection broke$"):
        await ask("POST")


async def test_a_call_that_takes_longer_than_its_timeout_may_have_been_done(
    node: Node, http: aiohttp.ClientSession, tls: Verifying
) -> None:
    node.answer = node.hang
    with pytest.raises(Broken, match=r"^it does not answer$"):
        await at(node.url, http, tls, 0.2)("POST")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_change_that_is_cut_on_a_connection_that_was_used_before_is_sent_once(
    node: Node, ask: Ask, method: Method
) -> None:
    await ask()
    node.answer = node.cut
    with pytest.raises(Broken):
        await ask(method)
    assert len(node.asked) == 2


async def test_a_call_that_is_given_up_ends_its_connection(node: Node, ask: Ask) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hangs(request: web.Request) -> web.StreamResponse:
        begun.set()
        try:
            return await node.hang(request)
        finally:
            ended.set()

    node.answer = hangs
    call = asyncio.ensure_future(ask())
    await begun.wait()
    call.cancel()
    await ended.wait()
