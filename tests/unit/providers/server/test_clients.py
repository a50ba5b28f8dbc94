"""Who may call what, by certificate or by user, at this moment."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from common.grants import Right
from providers.core.adapter import VM, PowerState
from providers.core.errors import NotAllowed
from providers.core.settings import Settings
from providers.server.access import BadAccess
from providers.server.certificates import read
from providers.server.clients import CertificateRefused, Client, Clients, StreamAged
from tests.unit.providers.server.pki import HOUR, Authority, Issued

AUTHORITY = Authority()


class Call:
    """A call as gRPC tells of it."""

    def __init__(self, issued: Issued | None = None, peer: str = "unix:") -> None:
        self._auth = {"transport_security_type": [b"ssl"], "x509_pem_cert": [issued.cert]} if issued else {}
        self._peer = peer

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._auth

    def peer(self) -> str:
        return self._peer


def clients(**settings: Any) -> Clients:
    return Clients(Settings(listen="unix:///nowhere", state_dir=Path("/nowhere"), **settings))


def operates(issued: Issued, operators: str) -> bool:
    return clients(operators=operators).admit(Call(issued), "PowerOff", writes=False).operates


@pytest.mark.parametrize(
    ("rule", "counts"),
    [
        ("cn:op", True),
        ("dns:op.example", True),
        ("uri:spiffe://example/op", True),
        ("spiffe://example/op", True),
        ("op", True),
        ("op.example", True),
        ("cn:op.example", False),
        ("dns:op", False),
        ("uri:op", False),
        ("cn:OP", False),
        ("cn:o", False),
        ("example/op", False),
    ],
)
def test_a_rule_counts_for_exactly_that_name_of_that_type(rule: str, counts: bool) -> None:
    issued = AUTHORITY.issue("op", dns=["op.example"], uri=["spiffe://example/op"])
    assert operates(issued, rule) is counts


def test_a_common_name_that_looks_like_another_type_is_not_of_that_type() -> None:
    assert not operates(AUTHORITY.issue("dns:op.example"), "dns:op.example")


@pytest.mark.parametrize("rule", ["email:op@example", "cn:", "op\0", "CN:op"])
def test_a_rule_of_no_type_that_is_known_is_refused_with_what_to_write(rule: str) -> None:
    with pytest.raises(ValidationError, match="write cn:NAME, dns:NAME or uri:NAME"):
        clients(operators=rule)


def test_a_common_name_that_goes_on_after_a_nul_is_no_operators() -> None:
    with pytest.raises(CertificateRefused, match="NUL"):
        operates(AUTHORITY.issue("op\0.evil"), "cn:op")


def test_a_viewer_does_not_write_and_is_told_who_grants_it() -> None:
    with pytest.raises(NotAllowed, match="adds its name to --operators"):
        clients(operators="cn:op").admit(Call(AUTHORITY.issue("eve")), "PowerOff", writes=True)


@pytest.mark.parametrize("writes", [True, False])
def test_an_expired_certificate_does_not_count(writes: bool) -> None:
    expired = AUTHORITY.issue("op", ends=-timedelta(minutes=1))
    with pytest.raises(CertificateRefused, match=r"it expired at .*get a new one"):
        clients(operators="cn:op").admit(Call(expired), "PowerOff", writes=writes)


def test_a_certificate_that_is_revoked_under_an_open_connection_does_not_count_any_more(tmp_path: Path) -> None:
    ca, crl, op = tmp_path / "ca.pem", tmp_path / "crl.pem", AUTHORITY.issue("op")
    ca.write_bytes(AUTHORITY.pem)
    AUTHORITY.revoke(crl)
    found, call = clients(operators="cn:op", tls_client_crl=crl, tls_client_ca=ca), Call(op)
    assert found.admit(call, "PowerOff", writes=True).operates
    AUTHORITY.revoke(crl, op)
    with pytest.raises(CertificateRefused, match="its authority has revoked it"):
        found.admit(call, "PowerOff", writes=True)


def test_without_rules_every_user_of_the_socket_operates() -> None:
    assert clients().admit(Call(), "PowerOff", writes=True).operates


def test_a_user_with_a_named_number_operates() -> None:
    assert clients(operator_uids="0,1000").admit(Call(peer="unix:/tmp/x/uid-1000-7"), "PowerOff", writes=True).operates


def test_a_user_with_another_number_reads() -> None:
    assert not clients(operator_uids="0").admit(Call(peer="unix:/tmp/x/uid-1000-7"), "GetVM", writes=False).operates


def test_a_user_with_another_number_does_not_write_and_is_told_who_grants_it() -> None:
    with pytest.raises(NotAllowed, match=r"the user 1000 does not have; .* adds the number to --operator-uids"):
        clients(operator_uids="0").admit(Call(peer="unix:/tmp/x/uid-1000-7"), "PowerOff", writes=True)


@pytest.mark.parametrize("peer", ["unix:", "unix:/tmp/x/uid--7", "ipv4:127.0.0.1:50000", "unix-abstract:/uid-0-1"])
def test_a_client_that_came_past_the_front_is_no_operator(peer: str) -> None:
    with pytest.raises(NotAllowed):
        clients(operator_uids="0").admit(Call(peer=peer), "PowerOff", writes=True)


async def silent_after(*responses: int) -> AsyncIterator[int]:
    for response in responses:
        yield response
    await asyncio.Event().wait()


async def read_all(found: Clients, client: Client, told: list[int]) -> None:
    async for response in found.while_valid(client, silent_after(1, 2)):
        told.append(response)


@pytest.mark.looptime
async def test_a_stream_by_tls_ends_when_a_connection_would() -> None:
    told, now = list[int](), asyncio.get_running_loop().time
    client = Client("op", read(AUTHORITY.issue("op").cert), operates=True)
    with pytest.raises(StreamAged):
        await read_all(clients(max_connection_age="10m"), client, told)
    assert told == [1, 2]
    assert now() == pytest.approx(600)


@pytest.mark.looptime
async def test_a_stream_ends_with_its_certificate() -> None:
    now = asyncio.get_running_loop().time
    client = Client("op", read(AUTHORITY.issue("op", ends=timedelta(minutes=5)).cert), operates=True)
    with pytest.raises((CertificateRefused, StreamAged)):
        await read_all(clients(max_connection_age="10m"), client, [])
    assert now() == pytest.approx(300, abs=2)


async def test_a_stream_whose_certificate_has_expired_says_nothing_more() -> None:
    told = list[int]()
    client = Client("op", read(AUTHORITY.issue("op", begins=-2 * HOUR, ends=-HOUR).cert), operates=True)
    with pytest.raises(CertificateRefused):
        await read_all(clients(), client, told)
    assert told == []


@pytest.mark.looptime
async def test_a_stream_of_this_machine_has_no_end() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(7 * 24 * 3600):
            await read_all(clients(), Client("unix", None, operates=True), [])


# Who that is, and what it may


def test_who_asks_is_known_by_the_names_of_its_certificate() -> None:
    found = clients(operators="cn:op").admit(Call(AUTHORITY.issue("op", dns=["op.example"])), "GetVM", writes=False)
    assert found.shown == "cn:op dns:op.example"


def test_who_asks_is_known_by_its_number_and_login_at_the_socket() -> None:
    found = clients(operator_uids="0").admit(Call(peer="unix:/tmp/x/uid-0-7"), "GetVM", writes=False)
    assert found.shown == "uid:0 root"


@pytest.mark.parametrize(
    ("call", "delegates", "may"),
    [
        (Call(AUTHORITY.issue("op")), "cn:op", True),
        (Call(AUTHORITY.issue("op")), "cn:other", False),
        (Call(AUTHORITY.issue("op")), "", False),
        (Call(peer="unix:/tmp/x/uid-1000-7"), "uid:1000", True),
        (Call(peer="unix:/tmp/x/uid-1000-7"), "uid:100", False),
    ],
)
def test_only_a_client_that_is_named_speaks_for_others(call: Call, delegates: str, may: bool) -> None:
    found = clients(operators="cn:op", operator_uids="1000", delegates=delegates).admit(call, "PowerOff", writes=True)
    assert found.delegates is may


def test_where_all_users_of_the_socket_may_everything_they_may_that_too() -> None:
    assert clients().admit(Call(), "PowerOff", writes=True).delegates


def test_rules_are_for_the_client_that_they_name(tmp_path: Path) -> None:
    file = tmp_path / "access.yaml"
    file.write_text("- {clients: [cn:op], vms: {names: [web]}, allow: [power]}")
    found = clients(operators="cn:op,cn:boss", client_access=file)
    op, boss = (found.admit(Call(AUTHORITY.issue(name)), "PowerOff", writes=True) for name in ("op", "boss"))
    web, db = (VM(f"id-{name}", name, PowerState.ON) for name in ("web", "db"))
    op.require(web)
    boss.require(db, Right.EXEC)
    with pytest.raises(NotAllowed, match="cn:op may not have this done to db: power is not granted"):
        op.require(db)
    with pytest.raises(NotAllowed, match="exec is not granted"):
        op.require(web, Right.EXEC)


def test_rules_about_users_need_users_that_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "access.yaml"
    file.write_text('- {clients: ["uid:1000"], allow: [power]}')
    with pytest.raises(BadAccess, match="only with --operator-uids"):
        clients(client_access=file)


def test_a_name_that_looks_like_two_is_shown_as_one() -> None:
    found = clients(operators="cn:x").admit(Call(AUTHORITY.issue("alice dns:boss.example")), "GetVM", writes=False)
    assert found.shown == "cn:alice\\x20dns:boss.example"
    spaced = clients(operators="cn:x").admit(Call(AUTHORITY.issue("Alice Smith")), "GetVM", writes=False)
    assert spaced.shown == "cn:Alice Smith"
