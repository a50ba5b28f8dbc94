import socket

import pytest

from common.addresses import is_local, mistake, require_short, socket_path, strangers


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


@pytest.mark.parametrize(
    "address",
    [
        *("unix:///run/x", "unix:x", "unix-abstract:x", "localhost:1", "[2001:db8::1]:9443", "kvm1.example:65535"),
        *("dns:kvm1:9443", "dns:///kvm1:9443", "dns://192.0.2.53:53/kvm1:9443", "ipv4:192.0.2.1:1,192.0.2.2:1"),
        *("ipv6:[::1]:9443", "ipv4:///127.0.0.1:1", "vsock:2:9443"),
    ],
)
def test_what_can_be_connected_to_is_no_mistake(address: str) -> None:
    assert mistake(address) == ""


@pytest.mark.parametrize(
    "address",
    [
        *("", "kvm1", "kvm1.example", "127.0.0.1", "[::1]", "::1", "2001:db8::1", ":9443", "kvm1:", "kvm1:0"),
        *("kvm1:65536", "kvm1:https", "kvm1:\u0661", "dns:///kvm1", "dns:///", "http://kvm1:9443", "kvm1:9443/path"),
        *("ipv4:192.0.2.1:1,192.0.2.2", "kvm 1:9443", "kvm1:9443\n"),
    ],
)
def test_an_address_without_a_host_or_a_port_is_a_mistake(address: str) -> None:
    assert mistake(address) == "must be unix:///path, or host:port with a port up to 65535"


@pytest.mark.parametrize("address", ["unix:", "unix://", "unix:///", "unix-abstract:"])
def test_a_socket_without_a_name_is_a_mistake(address: str) -> None:
    assert mistake(address) == "names no socket; write unix:///path"


def test_a_socket_whose_path_is_too_long_is_a_mistake() -> None:
    assert "108 bytes" in mistake("unix:///" + "x" * 107)


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
