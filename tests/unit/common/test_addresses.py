import socket

import pytest

from common.addresses import is_local, require_short, socket_path, strangers


@pytest.mark.parametrize(
    "address",
    [
        "unix:///run/vmpower.sock",
        "unix:run/vmpower.sock",
        "unix-abstract:vmpower",
        "127.0.0.1:9443",
        "127.1.2.3:9443",
        "[::1]:9443",
        "localhost:9443",
        "dns:localhost:9443",
        "dns:///localhost:9443",
        "dns:///127.0.0.1:9443",
        "ipv4:127.0.0.1:9443",
        "ipv6:[::1]:9443",
    ],
)
def test_only_this_machine_reaches(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:9443",
        "[::]:9443",
        "192.0.2.1:9443",
        "[2001:db8::1]:9443",
        "host.example:9443",
        "localhost.example:9443",
        "dns:///host.example:9443",
        "dns:///unix:9443",
        "ipv4:0.0.0.0:9443",
        "ipv4:127.0.0.1:9443,192.0.2.1:9443",
        "ipv4:192.0.2.1:9443,127.0.0.1:9443",
        "ipv6:[::]:9443",
        "vsock:2:9443",
        ":9443",
        "9443",
        "",
    ],
)
def test_others_reach(address: str) -> None:
    assert not is_local(address)


@pytest.mark.parametrize(
    "address",
    [
        *("unix:///run/x", "unix:x", "unix-abstract:x", "localhost:1", "127.0.0.1:1", "[::1]:1"),
        *("ipv4:127.0.0.2:1", "ipv6:[::1]:1", "dns:///localhost:1", "dns:localhost:1", "ipv4:///127.0.0.1:1"),
        *("localhost", "127.0.0.1"),
    ],
)
def test_however_it_is_written_it_is_local(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address",
    ["localhost.example.com:1", "10.0.0.1:1", "[2001:db8::1]:1", "ipv4:1.2.3.4:1", "ipv4:127.0.0.1:1,10.0.0.1:1"],
)
def test_other_addresses_are_not_local(address: str) -> None:
    assert not is_local(address)


@pytest.fixture
def localhost(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that localhost has."""
    addresses = list[str]()

    def getaddrinfo(*_args: object, **_more: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr("common.addresses.socket.getaddrinfo", getaddrinfo)
    return addresses


@pytest.mark.parametrize("address", ["localhost:1", "dns:localhost:1", "dns:///localhost:1"])
def test_a_localhost_that_is_another_machine_is_seen(localhost: list[str], address: str) -> None:
    localhost += ["127.0.0.1", "192.0.2.1"]
    assert strangers(address) == ["192.0.2.1"]


def test_a_localhost_that_is_this_machine_has_no_strangers(localhost: list[str]) -> None:
    localhost += ["127.0.0.1", "::1", "127.0.1.1"]
    assert strangers("localhost:1") == []


@pytest.mark.parametrize("address", ["127.0.0.1:1", "unix:///localhost", "host.example:1"])
def test_an_address_without_that_name_is_not_looked_up(localhost: list[str], address: str) -> None:
    localhost += ["192.0.2.1"]
    assert strangers(address) == []


@pytest.mark.parametrize(
    ("address", "path"),
    [("unix:///run/x", "/run/x"), ("unix:/run/x", "/run/x"), ("unix:x", "x"), ("unix-abstract:x", ""), ("[::1]:1", "")],
)
def test_the_path_of_a_socket(address: str, path: str) -> None:
    assert socket_path(address) == path


def test_a_path_is_as_long_as_the_kernel_takes() -> None:
    require_short("unix:///" + "x" * 106)
    with pytest.raises(ValueError, match="108 bytes, 107 are possible"):
        require_short("unix:///" + "x" * 107)
