"""Which addresses of a VM count as its own. Nothing is sent anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from providers.core.adapter import VM, PowerState
from providers.core.addresses import MAX_CLAIMS, is_own, own_addresses, trusted
from providers.core.errors import CommandFailed

EVERYWHERE = [ip_network("0.0.0.0/0"), ip_network("::/0")]
GUESTS = [ip_network("203.0.113.0/24")]


def counts(claimed: str, networks: Sequence[Any] = EVERYWHERE) -> list[str]:
    return list(trusted([claimed], networks))


def test_what_a_guest_claims_counts_inside_the_networks_that_the_operator_names() -> None:
    assert list(trusted(["203.0.113.7", "198.51.100.7", "2001:db8::7"], GUESTS)) == ["203.0.113.7"]


def test_where_no_network_is_named_nothing_counts() -> None:
    assert counts("203.0.113.7", ()) == []


@pytest.mark.parametrize(
    "claimed",
    ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1",  # loopback
     "169.254.169.254", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254",  # link-local
     "224.0.0.1", "ff02::1",  # multicast
     "0.0.0.0", "::", "localhost", "203.0.113.7/24", "", "7"],
)  # fmt: skip
def test_whatever_network_is_named_these_never_count(claimed: str) -> None:
    assert counts(claimed) == []


def test_this_machines_own_address_never_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.core.addresses.is_own", lambda address: str(address) == "203.0.113.7")
    assert list(trusted(["203.0.113.7", "203.0.113.8"], GUESTS)) == ["203.0.113.8"]


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_an_address_that_a_socket_can_be_bound_to_is_this_machines_own(address: str) -> None:
    assert is_own(ip_address(address))


def test_another_machines_address_is_not_this_ones() -> None:
    assert not is_own(ip_address("203.0.113.7"))


def test_an_address_of_ipv4_that_is_written_as_one_of_ipv6_is_the_same() -> None:
    assert counts("::ffff:203.0.113.7") == ["203.0.113.7"]


def test_only_so_many_claims_are_looked_at() -> None:
    claims = [f"203.0.113.{last}" for last in range(1, 200)]
    assert len(list(trusted(claims, GUESTS))) == MAX_CLAIMS


@dataclass
class Silent:
    """An adapter of a hypervisor that tells no addresses, nor asks for any."""


@dataclass
class Asking:
    """An adapter whose guest answers this, or that."""

    answer: Sequence[str] | Exception = ()
    asked: list[str] = field(default_factory=list)

    async def guest_addresses(self, vm_id: str) -> Sequence[str]:
        self.asked.append(vm_id)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def own(adapter: object, networks: Sequence[Any] = GUESTS, **vm: Any) -> tuple[str, ...]:
    settings = SimpleNamespace(guest_networks=networks)
    run: Any = SimpleNamespace(adapter=adapter, settings=settings, vm=VM("1", "web", PowerState.ON, **vm), vm_id="1")
    return await own_addresses(run)


async def test_what_the_hypervisor_has_assigned_comes_first_and_counts_anywhere() -> None:
    claimed = ("203.0.113.7", "198.51.100.1")
    assert await own(Silent(), addresses=("192.0.2.1",), guest_addresses=claimed) == ("192.0.2.1", "203.0.113.7")


async def test_a_guest_is_asked_where_its_hypervisor_does_not_tell() -> None:
    assert await own(Asking(["203.0.113.7"])) == ("203.0.113.7",)


async def test_no_guest_is_asked_where_its_answer_would_not_count() -> None:
    adapter = Asking(["203.0.113.7"])
    assert (await own(adapter, ()), adapter.asked) == ((), [])


async def test_a_guest_that_does_not_answer_claims_nothing() -> None:
    assert await own(Asking(CommandFailed("no agent")), addresses=("192.0.2.1",)) == ("192.0.2.1",)
