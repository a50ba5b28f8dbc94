import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import requests
import trustme
from aiohttp import web

from providers.proxmox.tls import NotConnected, transport, verifying
from tests.unit.providers.proxmox.node import Dead, Node, Silent, data, settings

Get = Callable[..., Awaitable[int]]
PATH = "/api2/json/version"


@pytest.fixture
async def get(tmp_path: Path) -> AsyncIterator[Get]:
    """Asks a node as these settings verify it; the status, which is 401 for lack of a login."""
    made = list[requests.Session]()

    async def get(url: str, timeout: float = 30, **verified: object) -> int:
        made.append(transport(verifying(settings(tmp_path, url, **verified)), connections=1))
        answer = await asyncio.to_thread(made[-1].get, url + PATH, timeout=timeout)
        return answer.status_code

    yield get
    for session in made:
        session.close()


async def test_a_certificate_of_the_named_ca_is_taken(get: Get, node: Node, ca_file: Path) -> None:
    assert await get(node.url, ca_file=ca_file) == 401


async def test_a_certificate_of_a_ca_that_nobody_named_is_refused(get: Get, node: Node) -> None:
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


async def test_a_ca_that_is_named_remains_the_only_one(node: Node, ca_file: Path, tmp_path: Path) -> None:
    context = verifying(settings(tmp_path, node.url, ca_file=ca_file))
    with transport(context, connections=1) as session:
        await asyncio.to_thread(session.get, node.url + PATH, timeout=30)
    assert len(context.get_ca_certs()) == 1


async def test_a_certificate_with_the_right_fingerprint_is_taken(get: Get, node: Node) -> None:
    digits = node.fingerprint.upper()
    colons = ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))
    assert await get(node.url, fingerprint=f"{'ab' * 32},{colons}") == 401


async def test_a_certificate_with_another_fingerprint_is_refused_each_time(get: Get, node: Node) -> None:
    for _ in range(2):
        with pytest.raises(NotConnected, match="another fingerprint than --fingerprint"):
            await get(node.url, fingerprint="ab" * 32)


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")  # that is what was asked for
async def test_whoever_asks_for_it_gets_no_verification(get: Get, node: Node) -> None:
    assert await get(node.url, insecure=True) == 401


async def test_a_node_that_is_away_is_told_so(get: Get, dead: Dead) -> None:
    with pytest.raises(NotConnected, match=r"^Connection refused$"):
        await get(dead.url)


async def test_a_node_that_never_shakes_hands_is_told_so(get: Get, silent: Silent) -> None:
    with pytest.raises(NotConnected, match=r"^it does not answer$"):
        await get(silent.url, timeout=0.2)


async def test_a_server_without_tls_is_told_so(get: Get, certificate: trustme.LeafCert) -> None:
    plain = Node(certificate)
    await plain.start(tls=False)
    with pytest.raises(NotConnected, match="does not speak TLS"):
        await get(plain.url)
    await plain.stop()


def test_tls_is_at_least_1_2(tmp_path: Path) -> None:
    assert verifying(settings(tmp_path, "https://x")).minimum_version is ssl.TLSVersion.TLSv1_2


async def test_the_environment_names_no_proxy_for_us(
    get: Get, node: Node, ca_file: Path, dead: Dead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", dead.url)
    assert await get(node.url, ca_file=ca_file) == 401


async def test_the_environment_has_no_password_for_us(
    node: Node, ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = list[str | None]()

    async def listens(request: web.Request) -> web.StreamResponse:
        sent.append(request.headers.get("Authorization"))
        return data(None)

    node.login_answer = listens
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login root password x")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    context, login = verifying(settings(tmp_path, node.url, ca_file=ca_file)), {"username": "a", "password": "b"}
    with transport(context, connections=1) as session:
        await asyncio.to_thread(session.post, f"{node.url}/api2/json/access/ticket", json=login, timeout=30)
    assert sent == [None]


async def test_the_environment_names_no_ca_for_us(
    get: Get, node: Node, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_file))
    with pytest.raises(NotConnected, match="does not verify"):
        await get(node.url)
