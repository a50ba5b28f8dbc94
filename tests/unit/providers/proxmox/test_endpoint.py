import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import requests
from aiohttp import web
from proxmoxer import ResourceException

from providers.proxmox import endpoint as module
from providers.proxmox.config import Login
from providers.proxmox.endpoint import Endpoint, SecondFactor, Strange, log_in, why
from providers.proxmox.tls import NotConnected, transport, verifying
from tests.unit.providers.proxmox.node import SECRET, TOKEN, USER, Dead, Node, data, failure, settings


@pytest.fixture
async def http(node: Node, tmp_path: Path, ca_file: Path) -> AsyncIterator[requests.Session]:
    session = transport(verifying(settings(tmp_path, node.url, ca_file=ca_file)), connections=1)
    yield session
    session.close()


async def opened(node: Node, http: requests.Session, login: Login) -> Endpoint:
    return await asyncio.to_thread(log_in, node.url, http, login)


@pytest.fixture
async def endpoint(node: Node, http: requests.Session) -> Endpoint:
    """Logged in to as a user."""
    return await opened(node, http, Login(USER, "first"))


async def call(endpoint: Endpoint, method: module.Method = "GET", timeout: float = 30) -> object:
    return await asyncio.to_thread(endpoint.call, method, "version", None, timeout)


# Logging in


async def test_a_password_gets_a_ticket_for_reads_and_changes(endpoint: Endpoint) -> None:
    assert [await call(endpoint, "GET"), await call(endpoint, "POST")] == ["version", "version"]


async def test_a_token_is_good_without_a_login(node: Node, http: requests.Session) -> None:
    token = await opened(node, http, Login(TOKEN, SECRET))
    assert (await call(token, "POST"), node.logins) == ("version", [])


async def test_a_password_that_is_wrong_is_refused(node: Node, http: requests.Session) -> None:
    with pytest.raises(ResourceException, match="401"):
        await opened(node, http, Login(USER, "wrong"))


async def test_a_login_that_breaks_leaves_the_node_as_good_as_away(node: Node, http: requests.Session) -> None:
    node.login_answer = node.cut
    with pytest.raises(NotConnected, match="the connection broke"):
        await opened(node, http, Login(USER, "first"))


async def test_a_second_factor_is_none_of_ours(node: Node, http: requests.Session) -> None:
    async def challenges(_request: web.Request) -> web.StreamResponse:
        return data({"ticket": "PVE:!tfa!", "CSRFPreventionToken": "x", "NeedTFA": 1})

    node.login_answer = challenges
    with pytest.raises(SecondFactor):
        await opened(node, http, Login(USER, "first"))


async def test_a_young_ticket_needs_no_renewal(endpoint: Endpoint) -> None:
    assert endpoint.due() is None


async def test_an_old_ticket_is_renewed_by_itself(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", -1.0)
    assert endpoint.due() == Login(USER, f"PVE:{USER}:1")


async def test_a_token_is_never_renewed(node: Node, http: requests.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", -1.0)
    assert (await opened(node, http, Login(TOKEN, SECRET))).due() is None


async def test_an_endpoint_never_shows_what_it_logs_in_with(node: Node, http: requests.Session) -> None:
    shown = repr(await opened(node, http, Login(USER, "first"))) + repr(await opened(node, http, Login(TOKEN, SECRET)))
    assert not [secret for secret in ("first", SECRET, *node.tickets) if secret in shown]


# Answers


async def test_a_refusal_has_its_status_its_words_and_its_fields(node: Node, endpoint: Endpoint) -> None:
    async def verifies(_request: web.Request) -> web.StreamResponse:
        return failure(400, "Parameter verification failed.", {"timeout": "too long"})

    node.answer = verifies
    with pytest.raises(ResourceException) as refused:
        await call(endpoint)
    told = refused.value.status_code, refused.value.content, refused.value.errors
    assert told == (400, "Parameter verification failed.", {"timeout": "too long"})


async def test_a_refusal_without_json_has_no_fields(node: Node, endpoint: Endpoint) -> None:
    async def away(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=595, reason="No route to host")

    node.answer = away
    with pytest.raises(ResourceException) as refused:
        await call(endpoint)
    assert (refused.value.content, refused.value.errors) == ("No route to host", None)


@pytest.mark.parametrize("page", ["<html>It works!</html>", "[]", "{}"])
async def test_a_page_is_not_taken_for_an_answer(node: Node, endpoint: Endpoint, page: str) -> None:
    async def welcomes(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=page)

    node.answer = welcomes
    with pytest.raises(Strange, match="not Proxmox VE"):
        await call(endpoint)


async def test_nobody_is_followed_elsewhere(node: Node, endpoint: Endpoint) -> None:
    async def elsewhere(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=301, headers={"Location": f"{node.url}/api2/json/elsewhere"})

    node.answer = elsewhere
    with pytest.raises(Strange, match="sends us elsewhere"):
        await call(endpoint, "POST")
    assert [asked.path for asked in node.asked] == ["version"]


# What is known of a failure


async def test_a_call_that_connects_to_nobody_was_not_sent(dead: Dead, http: requests.Session) -> None:
    token = await asyncio.to_thread(log_in, dead.url, http, Login(TOKEN, SECRET))
    with pytest.raises(NotConnected):
        await call(token, "POST")


async def test_a_call_that_is_cut_may_have_been_done(node: Node, endpoint: Endpoint) -> None:
    node.answer = node.cut
    with pytest.raises(requests.RequestException) as failed:
        await call(endpoint, "POST")
    assert why(failed.value) == "the connection broke"


async def test_a_call_that_takes_longer_than_its_timeout_may_have_been_done(node: Node, endpoint: Endpoint) -> None:
    node.answer = node.hang
    with pytest.raises(requests.RequestException) as failed:
        await call(endpoint, "POST", timeout=0.2)
    assert why(failed.value) == "it does not answer"
