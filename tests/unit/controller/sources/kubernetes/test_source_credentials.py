"""Logins in guests: read at use, and nowhere to be seen."""

import base64
import traceback

import pytest
from structlog.testing import capture_logs

from controller.source import GuestCredentials, SecretUnavailable, SourceError, TlsSecret, UpsSecret
from controller.sources.kubernetes.api import ApiError
from tests.unit.controller.sources.kubernetes.fakes import AWAY, GONE, raw
from tests.unit.controller.sources.kubernetes.watched import Watched

pytestmark = pytest.mark.looptime


def encoded(**values: str | bytes) -> dict[str, str | bytes]:
    bytes_of = {name: value.encode() if isinstance(value, str) else value for name, value in values.items()}
    return {name: base64.b64encode(value).decode() for name, value in bytes_of.items()}


async def test_a_login_is_read_from_the_secret_that_is_named(watched: Watched) -> None:
    await watched.start()
    watched.api.secrets["login"] = encoded(username="root", password="hünter2", other="x")
    assert await watched.source.guest_credentials("lab", "login") == GuestCredentials("root", "hünter2")
    assert watched.api.asked("secret") == [("lab", "login")]


async def test_a_login_is_read_anew_at_each_use(watched: Watched) -> None:
    await watched.start()
    for password in ("old", "new"):
        watched.api.secrets["login"] = encoded(username="root", password=password)
        assert (await watched.source.guest_credentials("lab", "login")).password == password


@pytest.mark.parametrize(
    "values",
    [
        {},
        encoded(username="root"),
        encoded(password="hunter2"),
        encoded(username="root", password=b"hunter2\xff"),
        encoded(username="root") | {"password": "hunter2"},
    ],
)
async def test_a_secret_that_is_no_login_is_named_and_not_quoted(
    watched: Watched, values: dict[str, str | bytes]
) -> None:
    await watched.start()
    watched.api.secrets["login"] = values
    with pytest.raises(SecretUnavailable, match="lab/login needs username and password") as raised:
        await watched.source.guest_credentials("lab", "login")
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("code", [403, 404])
async def test_a_secret_that_may_not_be_read_or_is_not_there_is_told_so(watched: Watched, code: int) -> None:
    await watched.start()
    watched.api.fail("secret", ApiError(code, "somebody must act"))
    with pytest.raises(SecretUnavailable, match="somebody must act"):
        await watched.source.guest_credentials("lab", "login")


@pytest.mark.parametrize("error", [AWAY, ApiError(401, "who?"), ApiError(429, "later"), ApiError(500, "oh")])
async def test_a_secret_that_cannot_be_read_now_can_be_tried_again(watched: Watched, error: ApiError) -> None:
    await watched.start()
    watched.api.fail("secret", error)
    with pytest.raises(SourceError) as raised:
        await watched.source.guest_credentials("lab", "login")
    assert raised.value is error


async def test_no_secret_is_logged(watched: Watched) -> None:
    watched.api.secrets |= {"good": encoded(username="r00t", password="hunter2"), "bad": encoded(username="r00t")}
    with capture_logs() as logs:
        await watched.start(raw())
        await watched.source.guest_credentials("lab", "good")
        with pytest.raises(SecretUnavailable):
            await watched.source.guest_credentials("lab", "bad")
        watched.api.end(GONE)
        await watched.settle()
        await watched.stop()
    assert logs
    assert not [secret for secret in ("hunter2", "r00t", "aHVudGVyMg==", "cjAwdA==") if secret in str(logs)]


async def test_what_a_provider_proves_itself_by_is_read_from_its_secret(watched: Watched) -> None:
    await watched.start()
    watched.api.secrets["tls"] = encoded(**{"ca.crt": "ca", "tls.crt": "cert", "tls.key": "key"})
    assert await watched.source.tls_secret("lab", "tls") == TlsSecret(b"ca", b"cert", b"key")


async def test_a_secret_that_holds_no_certificate_is_named_and_not_quoted(watched: Watched) -> None:
    await watched.start()
    watched.api.secrets["guest"] = encoded(username="root", password="hunter2")
    with pytest.raises(SecretUnavailable, match=r"lab/guest needs ca.crt, tls.crt, tls.key") as raised:
        await watched.source.tls_secret("lab", "guest")
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))


async def test_a_login_at_upsd_is_read_with_its_authority_if_that_is_there(watched: Watched) -> None:
    await watched.start()
    watched.api.secrets |= {"plain": encoded(username="vmpower", password="word")}
    watched.api.secrets |= {"tls": encoded(**{"username": "vmpower", "password": "word", "ca.crt": "authority"})}
    watched.api.types = dict.fromkeys(("plain", "tls"), "vmpower/nut")
    assert await watched.source.ups_secret("lab", "plain") == UpsSecret("vmpower", "word")
    assert await watched.source.ups_secret("lab", "tls") == UpsSecret("vmpower", "word", "authority")


async def test_a_secret_that_is_not_meant_for_upsd_is_sent_to_none(watched: Watched) -> None:
    await watched.start()
    watched.api.secrets["guest"] = encoded(username="root", password="hunter2")
    with pytest.raises(SecretUnavailable, match=r"lab/guest is not of type vmpower/nut; whoever owns it"):
        await watched.source.ups_secret("lab", "guest")
