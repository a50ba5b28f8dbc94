import pytest

from common.urls import mistake


@pytest.mark.parametrize(
    "url", ["http://web/drain", "https://192.0.2.1:8443", "http://[2001:db8::1]/", "http://:8080/drain"]
)
def test_what_a_hook_may_call(url: str) -> None:
    assert mistake(url) == ""


@pytest.mark.parametrize(
    "url", ["ftp://web/", "web:8080", "http://", "http://:0/", "http://web:99999/", "http://[::1/", ""]
)
def test_what_is_no_url_of_a_hook(url: str) -> None:
    assert mistake(url) == "must be an http or https URL with a host, or with a port alone"


def test_a_password_is_not_written_into_a_url() -> None:
    assert mistake("http://me:secret@web/") == "must have no user or password, which belong into headers"
