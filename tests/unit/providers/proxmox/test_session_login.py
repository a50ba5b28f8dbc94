"""How the session logs in, on real nodes on loopback."""

import asyncio
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from providers.core.errors import CommandFailed, HypervisorUnavailable
from providers.proxmox import endpoint
from providers.proxmox.session import REFUSED_SECONDS
from tests.unit.providers.proxmox.node import SECRET, USER, Make, Node, as_token, as_user, data, failure

SHUTDOWN = "nodes/pve1/qemu/100/status/shutdown"


async def refusing(_request: web.Request) -> web.StreamResponse:
    return failure(401, "authentication failure")


async def test_callers_that_come_together_share_one_login(make: Make, node: Node) -> None:
    session = make(node.url)
    await asyncio.gather(*(session.call("GET", "version") for _ in range(20)))
    assert node.logins == [(USER, "first")]


async def test_many_who_find_their_ticket_expired_share_one_login(make: Make, node: Node) -> None:
    session = make(node.url)
    await session.call("GET", "version")
    node.tickets.clear()
    await asyncio.gather(*(session.call("POST", SHUTDOWN) for _ in range(20)))
    assert len(node.logins) == 2
    assert [asked.path for asked in node.asked].count(SHUTDOWN) == 20


async def test_a_password_that_changed_is_read_anew(make: Make, node: Node, tmp_path: Path) -> None:
    session = make(node.url)
    await session.call("GET", "version")
    node.tickets.clear()
    node.password = "second"
    as_user(tmp_path, "second")
    await session.call("GET", "version")
    assert node.logins == [(USER, "first"), (USER, "second")]


async def test_a_token_is_sent_with_each_call_and_never_logs_in(make: Make, node: Node, tmp_path: Path) -> None:
    as_token(tmp_path)
    assert await make(node.url).call("POST", SHUTDOWN) == SHUTDOWN
    assert node.logins == []


async def test_a_token_that_changed_is_read_anew(make: Make, node: Node, tmp_path: Path) -> None:
    as_token(tmp_path)
    session = make(node.url)
    await session.call("GET", "version")
    node.secret = "another"
    as_token(tmp_path, "another")
    assert await session.call("POST", SHUTDOWN) == SHUTDOWN


@pytest.mark.parametrize("write", [as_token, as_user])
async def test_a_login_that_is_refused_again_is_an_outage_that_names_it(
    make: Make, node: Node, tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    write(tmp_path, "wrong")
    with pytest.raises(HypervisorUnavailable, match=rf"refuses the login of {USER}.*--credentials-dir"):
        await make(node.url).call("GET", "version")


async def test_a_refused_password_is_not_tried_again_at_once(make: Make, node: Node, tmp_path: Path) -> None:
    as_user(tmp_path, "wrong")
    session = make(node.url)
    for _ in range(5):
        with pytest.raises(HypervisorUnavailable, match="refuses the login"):
            await session.call("GET", "version")
    assert node.logins == [(USER, "wrong")]


async def test_a_refused_password_is_tried_again_as_soon_as_it_is_another(
    make: Make, node: Node, tmp_path: Path
) -> None:
    as_user(tmp_path, "wrong")
    session = make(node.url)
    with pytest.raises(HypervisorUnavailable):
        await session.call("GET", "version")
    as_user(tmp_path)
    assert await session.call("GET", "version") == "version"


async def test_a_refused_password_is_tried_again_after_a_while(
    make: Make, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.login_answer = refusing
    session = make(node.url)
    with pytest.raises(HypervisorUnavailable):
        await session.call("GET", "version")
    node.login_answer = None
    later = time.monotonic() + REFUSED_SECONDS
    monkeypatch.setattr("providers.shared.login.time", SimpleNamespace(monotonic=lambda: later))
    assert await session.call("GET", "version") == "version"


async def test_an_old_ticket_is_renewed_by_itself(make: Make, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    session = make(node.url)
    await session.call("GET", "version")
    (ticket,) = node.tickets
    monkeypatch.setattr(endpoint, "RENEW_SECONDS", -1.0)
    await session.call("POST", SHUTDOWN)
    assert node.logins == [(USER, "first"), (USER, ticket)]


async def test_a_ticket_too_old_to_be_renewed_is_had_anew_by_the_password(
    make: Make, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make(node.url)
    await session.call("GET", "version")
    node.tickets.clear()
    monkeypatch.setattr(endpoint, "RENEW_SECONDS", -1.0)
    await session.call("GET", "version")
    assert [password for _, password in node.logins] == ["first", f"PVE:{USER}:1", "first"]


async def test_a_user_with_a_second_factor_is_told_to_be_a_token(make: Make, node: Node) -> None:
    async def challenges(_request: web.Request) -> web.StreamResponse:
        return data({"ticket": "PVE:!tfa!", "CSRFPreventionToken": "x", "NeedTFA": 1})

    node.login_answer = challenges
    with pytest.raises(HypervisorUnavailable, match=r"second factor of vmpower@pve.*token"):
        await make(node.url).call("GET", "version")


async def test_a_login_that_fails_otherwise_is_told_by_its_own_words(make: Make, node: Node) -> None:
    async def fails(_request: web.Request) -> web.StreamResponse:
        return failure(500, "cluster not ready - no quorum?")

    node.login_answer = fails
    with pytest.raises(HypervisorUnavailable, match="no quorum"):
        await make(node.url).call("GET", "version")


async def test_a_login_that_cannot_be_read_names_the_setting(make: Make, node: Node, tmp_path: Path) -> None:
    (tmp_path / "password").unlink()
    with pytest.raises(HypervisorUnavailable, match=r"password.*--credentials-dir"):
        await make(node.url).call("GET", "version")


@pytest.mark.parametrize("write", [as_token, as_user])
@pytest.mark.parametrize("fault", ["cut", "refuse", "fail"])
async def test_no_error_has_a_secret(
    make: Make, node: Node, tmp_path: Path, write: Callable[[Path, str], None], fault: str
) -> None:
    async def fails(_request: web.Request) -> web.StreamResponse:
        return failure(500, "failed") if fault == "fail" else failure(401, "No ticket")

    write(tmp_path, SECRET)
    node.password = SECRET
    node.answer = node.cut if fault == "cut" else fails
    with pytest.raises((HypervisorUnavailable, CommandFailed)) as failed:
        await make(node.url).call("POST", SHUTDOWN)
    told = "".join(traceback.format_exception(failed.value))
    assert not [secret for secret in (SECRET, *node.tickets) if secret in told]
