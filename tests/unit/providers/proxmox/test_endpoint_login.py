from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from providers.core.errors import HypervisorUnavailable
from providers.proxmox import endpoint as module
from providers.proxmox.config import Login
from providers.proxmox.endpoint import Endpoint, Method, NotConnected, log_in
from providers.proxmox.errors import Refused
from providers.shared.tls import Verifying
from tests.unit.providers.proxmox.node import SECRET, TOKEN, USER, Node, data

Opened = Callable[[Login], Awaitable[Endpoint]]


@pytest.fixture
def opened(node: Node, http: aiohttp.ClientSession, tls: Verifying) -> Opened:
    """Logs in to the node."""
    return lambda login: log_in(node.url, http, tls, login)


@pytest.fixture
async def endpoint(opened: Opened) -> Endpoint:
    """Logged in to as a user."""
    return await opened(Login(USER, "first"))


async def call(endpoint: Endpoint, method: Method = "GET", params: dict[str, object] | None = None) -> object:
    return await endpoint.call(method, "version", params, 30)


# Logging in


async def test_a_password_gets_a_ticket_for_reads_and_changes(endpoint: Endpoint) -> None:
    assert [await call(endpoint, "GET"), await call(endpoint, "POST")] == ["version", "version"]


async def test_a_token_is_good_without_a_login(node: Node, opened: Opened) -> None:
    token = await opened(Login(TOKEN, SECRET))
    assert (await call(token, "POST"), node.logins) == ("version", [])


async def test_a_password_that_is_wrong_is_refused(node: Node, opened: Opened) -> None:
    with pytest.raises(Refused, match="401"):
        await opened(Login(USER, "wrong"))


async def test_a_login_that_breaks_leaves_the_node_as_good_as_away(node: Node, opened: Opened) -> None:
    node.login_answer = node.cut
    with pytest.raises(NotConnected, match="the connection broke"):
        await opened(Login(USER, "first"))


async def test_a_second_factor_is_none_of_ours(node: Node, opened: Opened) -> None:
    async def challenges(_request: web.Request) -> web.StreamResponse:
        return data({"ticket": "PVE:!tfa!", "CSRFPreventionToken": "x", "NeedTFA": 1})

    node.login_answer = challenges
    with pytest.raises(HypervisorUnavailable, match="second factor of vmpower@pve"):
        await opened(Login(USER, "first"))


async def test_a_young_ticket_needs_no_renewal(endpoint: Endpoint) -> None:
    assert endpoint.due() is None


async def test_an_old_ticket_is_renewed_by_itself(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", -1.0)
    assert endpoint.due() == Login(USER, f"PVE:{USER}:1")


async def test_a_token_is_never_renewed(node: Node, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", -1.0)
    assert (await opened(Login(TOKEN, SECRET))).due() is None


async def test_an_endpoint_never_shows_what_it_logs_in_with(node: Node, opened: Opened) -> None:
    shown = repr(await opened(Login(USER, "first"))) + repr(await opened(Login(TOKEN, SECRET)))
    assert not [secret for secret in ("first", SECRET, *node.tickets) if secret in shown]
