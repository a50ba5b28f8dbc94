import pytest

from providers.shared.addresses import https


@pytest.mark.parametrize("url", ["https://pve.example", "https://10.0.0.1:8006/", "https://[::1]:443/sdk"])
def test_a_host_by_https_is_taken_apart(url: str) -> None:
    parts = https(url)
    assert parts is not None
    assert parts.geturl() == url


@pytest.mark.parametrize(
    "url",
    [
        "http://pve.example",
        "pve.example",
        "https://",
        "https://root@pve.example",
        "https://root:x@pve.example",
        "https://pve.example:0",
        "https://pve.example:65536",
        "https://pve.example:x",
        "https://[::1",
    ],
)
def test_anything_else_is_none(url: str) -> None:
    assert https(url) is None
