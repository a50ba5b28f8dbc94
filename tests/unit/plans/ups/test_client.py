import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
import trustme

from plans.ups import client
from plans.ups.client import Address, Login, Refused, Session, UpsError
from plans.ups.stages import Reading
from tests.unit.plans.ups.conftest import PASSWORD
from tests.unit.plans.ups.fake import FakeUpsd


async def opened(upsd: FakeUpsd, login: Login) -> Session:
    return await Session.open(Address.of(await upsd.start()), login)


async def read(upsd: FakeUpsd, login: Login) -> Reading:
    session = await opened(upsd, login)
    try:
        return await session.read()
    finally:
        await session.close()


async def problem(upsd: FakeUpsd, login: Login) -> str:
    with pytest.raises(UpsError) as error:
        await read(upsd, login)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("lab", Address("lab", "localhost", 3493)),
        ("lab@nas", Address("lab", "nas", 3493)),
        ("lab@nas.example.com:99", Address("lab", "nas.example.com", 99)),
        ("lab@[::1]:99", Address("lab", "::1", 99)),
    ],
)
def test_a_ups_is_named_as_nut_does(name: str, address: Address) -> None:
    assert Address.of(name) == address


def test_what_names_no_ups_is_refused() -> None:
    with pytest.raises(ValueError, match="is no UPS; write UPS@HOST"):
        Address.of("a b")


async def test_it_logs_in_as_a_secondary_and_out(upsd: FakeUpsd, login: Login) -> None:
    await (await opened(upsd, login)).close()
    assert upsd.asked == ["STARTTLS", 'USERNAME "vmpower"', 'PASSWORD "se \\"cret"', "LOGIN lab", "LOGOUT"]


async def test_status_charge_and_runtime_are_read(upsd: FakeUpsd, login: Login) -> None:
    assert await read(upsd, login) == Reading(frozenset({"OL", "CHRG"}), 97.5, timedelta(minutes=30))


async def test_a_ups_need_not_tell_of_its_battery(upsd: FakeUpsd, login: Login) -> None:
    upsd.answers |= {f"GET VAR lab battery.{name}": "ERR VAR-NOT-SUPPORTED" for name in ("charge", "runtime")}
    assert await read(upsd, login) == Reading(frozenset({"OL", "CHRG"}))


@pytest.mark.parametrize("told", ["x", "nan", "inf", "-1", "101", ""])
async def test_what_is_no_percentage_is_not_known(upsd: FakeUpsd, login: Login, told: str) -> None:
    upsd.answers["GET VAR lab battery.charge"] = f'VAR lab battery.charge "{told}"'
    assert (await read(upsd, login)).charge is None


@pytest.mark.parametrize("answer", ["OK", "VAR lab ups.status OL", 'VAR lab other "OL"', 'VAR x ups.status "OL"', ""])
async def test_what_is_no_answer_is_no_status(upsd: FakeUpsd, login: Login, answer: str) -> None:
    upsd.answers["GET VAR lab ups.status"] = answer
    assert await problem(upsd, login) == "upsd's answer to GET VAR ups.status is not one of its protocol"


async def test_data_that_is_stale_is_no_status(upsd: FakeUpsd, login: Login) -> None:
    upsd.answers["GET VAR lab ups.status"] = "ERR DATA-STALE"
    assert await problem(upsd, login) == "upsd answers 'DATA-STALE'"


async def test_an_answer_without_end_is_given_up(upsd: FakeUpsd, login: Login) -> None:
    upsd.answers["GET VAR lab ups.status"] = "x" * 100_000
    assert "an answer of more than 4096 bytes" in await problem(upsd, login)


async def test_an_upsd_that_does_not_answer_is_given_up(
    upsd: FakeUpsd, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LONGEST_ANSWER", 0.2)
    upsd.answers["LOGIN"] = None
    assert "no answer within 0.2 s" in await problem(upsd, login)


async def test_a_connection_that_is_cut_is_told(upsd: FakeUpsd, login: Login) -> None:
    session = await opened(upsd, login)
    upsd.cut()
    with pytest.raises(UpsError, match="the connection to upsd is lost"):
        await session.read()
    await session.close()


async def test_an_upsd_that_is_not_there_is_told(login: Login) -> None:
    with pytest.raises(UpsError, match=r"no upsd answers at 127\.0\.0\.1:1 "):
        await Session.open(Address("lab", "127.0.0.1", 1), login)


@pytest.mark.parametrize(("code", "lasts"), [("ACCESS-DENIED", True), ("DRIVER-NOT-CONNECTED", False)])
async def test_a_refusal_says_whether_it_lasts(upsd: FakeUpsd, login: Login, code: str, lasts: bool) -> None:
    upsd.answers["LOGIN"] = f"ERR {code}"
    with pytest.raises(Refused) as refused:
        await opened(upsd, login)
    assert refused.value.lasts is lasts


# The password


@pytest.mark.parametrize("password", ["", "a\nb", "a\0", "x" * 2000, "p\u00e4ss"])
def test_what_is_no_line_is_no_password(password: str) -> None:
    with pytest.raises(UpsError, match="the password for upsd is not one line of ASCII text, of at most 1024"):
        Login("vmpower", password)


def test_what_is_no_line_is_no_name() -> None:
    with pytest.raises(UpsError, match="the name for upsd is not one line"):
        Login("vmpower\nLOGIN lab", PASSWORD)


async def test_it_stands_in_no_message(upsd: FakeUpsd, login: Login) -> None:
    upsd.answers["PASSWORD"] = "ERR INVALID-PASSWORD"
    assert PASSWORD not in await problem(upsd, login)
    assert PASSWORD not in repr(login)


# TLS


@pytest.fixture
async def encrypted() -> AsyncIterator[tuple[FakeUpsd, trustme.CA]]:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    upsd = FakeUpsd(context)
    yield upsd, authority
    await upsd.close()


Encrypted = tuple[FakeUpsd, trustme.CA]


async def test_it_is_used_where_upsd_has_it(encrypted: Encrypted, login: Login) -> None:
    assert (await read(encrypted[0], login)).charge == 97.5
    assert encrypted[0].encrypted


async def test_with_a_ca_upsd_has_to_be_who_it_says(encrypted: Encrypted, login: Login) -> None:
    assert (await read(encrypted[0], replace(login, ca=encrypted[1].cert_pem.bytes().decode()))).charge == 97.5


async def test_what_is_said_before_tls_counts_for_nothing(encrypted: Encrypted, login: Login) -> None:
    encrypted[0].answers["STARTTLS"] = 'OK STARTTLS\nOK\nOK\nOK\nVAR lab ups.status "FSD OL"'
    told = await problem(encrypted[0], replace(login, ca=encrypted[1].cert_pem.bytes().decode()))
    assert told == "upsd says more than it was asked before TLS begins: somebody may stand between"
    assert not [line for line in encrypted[0].asked if line.startswith("PASSWORD")]


async def test_with_a_ca_another_upsd_gets_no_password(encrypted: Encrypted, login: Login) -> None:
    told = await problem(encrypted[0], replace(login, ca=trustme.CA().cert_pem.bytes().decode()))
    assert "no TLS with upsd at localhost" in told
    assert encrypted[0].asked == ["STARTTLS"]


async def test_with_a_ca_an_upsd_without_tls_gets_no_password(upsd: FakeUpsd, login: Login) -> None:
    told = await problem(upsd, replace(login, ca=trustme.CA().cert_pem.bytes().decode()))
    assert told == "upsd answers 'FEATURE-NOT-CONFIGURED'"
    assert not [line for line in upsd.asked if line.startswith("PASSWORD")]


async def test_a_ca_that_is_none_is_told(encrypted: Encrypted, login: Login) -> None:
    told = await problem(encrypted[0], replace(login, ca="nothing"))
    assert told.startswith("the authority of upsd's certificate is not in PEM")


async def test_an_empty_ca_is_not_taken_for_none(upsd: FakeUpsd, login: Login) -> None:
    told = await problem(upsd, replace(login, ca=""))
    assert told == "upsd answers 'FEATURE-NOT-CONFIGURED'"
    assert not [line for line in upsd.asked if line.startswith("PASSWORD")]


async def test_an_empty_ca_vouches_for_nobody(encrypted: Encrypted, login: Login) -> None:
    told = await problem(encrypted[0], replace(login, ca=""))
    assert told.startswith("the authority of upsd's certificate is not in PEM")
    assert encrypted[0].asked == ["STARTTLS"]
