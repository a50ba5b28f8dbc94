import pytest

from common.addresses import is_local


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
