from pathlib import Path

import pytest
from pydantic import ValidationError

from providers.proxmox.config import Login, ProxmoxSettings, login

REQUIRED = {"listen": "unix:///x", "url": "https://pve1.example", "credentials_dir": "/x"}
TOKEN = {"token-id": "vmpower@pve!power\n", "token-secret": "12345678-aaaa-bbbb-cccc-1234567890ab\n"}
USER = {"username": "vmpower@pve\n", "password": " pässword \n"}


def settings(**fields: object) -> ProxmoxSettings:
    return ProxmoxSettings.model_validate(REQUIRED | fields)


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


# Addresses


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("https://pve1.example", ("https://pve1.example:8006",)),
        ("https://PVE1.example/", ("https://pve1.example:8006",)),
        ("https://[::1]:443", ("https://[::1]:443",)),
        (
            "https://pve1.example, https://pve2.example:9000",
            ("https://pve1.example:8006", "https://pve2.example:9000"),
        ),
        ("https://pve1.example,https://pve1.example:8006", ("https://pve1.example:8006",)),
    ],
)
def test_addresses_are_told_apart_and_have_a_port(url: str, used: tuple[str, ...]) -> None:
    assert settings(url=url).url == used


@pytest.mark.parametrize(
    "url",
    [
        "http://pve1.example",
        "pve1.example",
        "https://",
        "https://root:x@pve1.example",
        "https://pve1.example/api2/json",
        "https://pve1.example:port",
        "https://pve1.example,pve2.example",
    ],
)
def test_an_address_without_tls_or_host_or_with_more_than_these_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match=r"url\n.*https://HOST"):
        settings(url=url)


def test_no_address_at_all_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least one"):
        settings(url=" , ")


def test_a_mistake_in_an_address_names_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ProxmoxSettings.load("x", ["--listen", "unix:///x", "--credentials-dir", "/x", "--url", "http://pve1"])
    assert "--url (VMPOWER_URL): must be https://HOST" in capsys.readouterr().err


def test_several_addresses_are_one_flag() -> None:
    flags = ["--listen", "unix:///x", "--credentials-dir", "/x", "--url", "https://pve1,https://pve2"]
    assert ProxmoxSettings.load("x", flags).url == ("https://pve1:8006", "https://pve2:8006")


# Verification


@pytest.mark.parametrize("fingerprint", ["AB:" * 31 + "AB", "ab" * 32])
def test_a_fingerprint_is_sha256_with_or_without_colons(fingerprint: str) -> None:
    assert settings(fingerprint=fingerprint).fingerprint == ("ab" * 32,)


def test_each_node_may_have_a_fingerprint_of_its_own() -> None:
    assert settings(fingerprint=f"{'ab' * 32}, {'cd' * 32}").fingerprint == ("ab" * 32, "cd" * 32)


@pytest.mark.parametrize("fingerprint", ["AB:CD", "ab" * 20, "zz" * 32])
def test_a_fingerprint_of_another_kind_is_refused(fingerprint: str) -> None:
    with pytest.raises(ValidationError, match=r"fingerprint\n.*SHA-256"):
        settings(fingerprint=fingerprint)


@pytest.mark.parametrize("other", [{"insecure": True}, {"ca_file": "/ca.pem"}])
def test_two_ways_to_verify_at_once_are_refused(other: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="only one of"):
        settings(fingerprint="ab" * 32, **other)


def test_nothing_is_insecure_unless_asked_for() -> None:
    assert settings().insecure is False


# Logins


def test_a_token_is_read_without_the_line_ends_of_its_files(tmp_path: Path) -> None:
    write(tmp_path, TOKEN)
    assert login(tmp_path) == Login("vmpower@pve!power", "12345678-aaaa-bbbb-cccc-1234567890ab")


def test_a_user_is_read_without_the_line_ends_of_its_files(tmp_path: Path) -> None:
    write(tmp_path, USER)
    assert login(tmp_path) == Login("vmpower@pve", " pässword ")


def test_where_both_are_there_the_token_counts(tmp_path: Path) -> None:
    write(tmp_path, TOKEN | USER)
    assert login(tmp_path).is_token


@pytest.mark.parametrize("name", ["vmpower@pve", "what!@pve"])
def test_a_user_is_no_token(tmp_path: Path, name: str) -> None:
    write(tmp_path, USER | {"username": name})
    assert not login(tmp_path).is_token


@pytest.mark.parametrize("missing", ["token-secret", "password"])
def test_a_login_without_its_secret_cannot_be_read(tmp_path: Path, missing: str) -> None:
    write(tmp_path, {k: v for k, v in (TOKEN if missing == "token-secret" else USER).items() if k != missing})
    with pytest.raises(OSError, match=missing):
        login(tmp_path)


@pytest.mark.parametrize("name", ["vmpower", "vmpower@pve", "vmpower@pve!", "vmpower!power", "a b@pve!power"])
def test_a_token_id_without_its_three_parts_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, TOKEN | {"token-id": name})
    with pytest.raises(ValueError, match="user@realm!name"):
        login(tmp_path)


@pytest.mark.parametrize("name", ["root", "root@", "vmpower@pve!power"])
def test_a_username_without_a_realm_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, USER | {"username": name})
    with pytest.raises(ValueError, match="user@realm"):
        login(tmp_path)


def test_a_user_may_be_an_e_mail_address(tmp_path: Path) -> None:
    write(tmp_path, USER | {"username": "ops@example.org@ad"})
    assert login(tmp_path).name == "ops@example.org@ad"


@pytest.mark.parametrize("secret", ["", "two\nlines", "gehéim"])
def test_a_token_secret_that_no_header_can_carry_is_refused_unquoted(tmp_path: Path, secret: str) -> None:
    write(tmp_path, TOKEN | {"token-secret": secret})
    with pytest.raises(ValueError, match=r"token-secret must be what PVE showed when the token was made$"):
        login(tmp_path)


def test_a_login_never_shows_its_secret(tmp_path: Path) -> None:
    write(tmp_path, USER)
    assert "pässword" not in repr(login(tmp_path))
