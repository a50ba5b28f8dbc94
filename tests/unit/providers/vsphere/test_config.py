import pytest
from pydantic import ValidationError

from providers.vsphere.config import VsphereSettings

REQUIRED = {"listen": "unix:///x", "url": "https://vcenter.example", "credentials_dir": "/x"}


def settings(**fields: object) -> VsphereSettings:
    return VsphereSettings.model_validate(REQUIRED | fields)


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("https://vcenter.example", "https://vcenter.example/sdk"),
        ("https://vcenter.example/", "https://vcenter.example/sdk"),
        ("https://[::1]:8443/sdk", "https://[::1]:8443/sdk"),
        ("https://proxy.example/vcenter/sdk", "https://proxy.example/vcenter/sdk"),
    ],
)
def test_the_path_is_sdk_unless_named(url: str, used: str) -> None:
    assert settings(url=url).url == used


@pytest.mark.parametrize(
    "url",
    [
        "http://vcenter.example",
        "vcenter.example",
        "https://",
        "https://root:x@vcenter.example",
        "https://vcenter.example:99999",
    ],
)
def test_a_url_without_tls_or_host_or_with_a_login_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="https://HOST"):
        settings(url=url)


@pytest.mark.parametrize("thumbprint", ["AB:" * 19 + "AB", "ab" * 32])
def test_a_thumbprint_is_sha1_or_sha256_with_or_without_colons(thumbprint: str) -> None:
    assert settings(thumbprint=thumbprint).thumbprint == thumbprint


@pytest.mark.parametrize("thumbprint", ["AB:CD", "zz" * 32])
def test_a_thumbprint_of_another_length_is_refused(thumbprint: str) -> None:
    with pytest.raises(ValidationError, match="thumbprint"):
        settings(thumbprint=thumbprint)


def test_two_ways_to_verify_at_once_are_refused() -> None:
    with pytest.raises(ValidationError, match="only one of"):
        settings(thumbprint="ab" * 32, insecure=True)


def test_nothing_is_insecure_unless_asked_for() -> None:
    assert settings().insecure is False
