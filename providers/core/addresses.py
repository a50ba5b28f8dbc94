"""Which addresses are a VM's own, so that an HTTP hook may call them.

What its hypervisor has assigned to it (a lease of the hypervisor's DHCP server) is. What its guest says of itself is a
claim, by which a hostile guest could point a hook at anything that this process reaches: it counts inside the networks
that the operator names, and never for loopback, link-local, multicast and unspecified addresses or this machine's own.
"""

import errno
import socket
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice

from providers.core.adapter import AsksAddresses
from providers.core.errors import VmpowerError
from providers.core.run import Run
from providers.core.settings import Network

MAX_CLAIMS = 64
"""So many addresses of a guest are looked at."""
CONNECT_TIME = 3.0
"""Seconds until an address of several counts as one that nothing answers at."""
NO_ADDRESS = (
    "The VM has no address that a hook may call: its hypervisor has assigned none, and what its guest says counts only "
    "in networks that the provider's operator names (VMPOWER_GUEST_NETWORKS)."
)
Address = IPv4Address | IPv6Address


async def own_addresses(run: Run) -> tuple[str, ...]:
    """Those of the VM as it was last read, its hypervisor's word first. Its guest is asked only where the operator has
    named networks in which that counts; a guest that does not answer claims nothing."""
    vm, networks = run.vm, run.settings.guest_networks
    if vm is None:
        return ()
    claimed = [*vm.guest_addresses, *(await _asked(run) if networks else ())]
    return tuple(dict.fromkeys((*vm.addresses, *trusted(claimed, networks))))


async def _asked(run: Run) -> Sequence[str]:
    if not isinstance(run.adapter, AsksAddresses):
        return ()
    try:
        return await run.adapter.guest_addresses(run.vm_id)
    except VmpowerError:
        return ()


def trusted(claimed: Iterable[str], networks: Sequence[Network]) -> Iterator[str]:
    """Of the addresses that a guest claims, those that count."""
    for text in islice(claimed, MAX_CLAIMS):
        address = _parsed(text)
        if address is None or not any(address in network for network in networks):
            continue
        if not _is_special(address) and not is_own(address):
            yield str(address)


def _parsed(text: str) -> Address | None:
    """None: it is no address. An IPv4 address that is written as an IPv6 one is that IPv4 address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _is_special(address: Address) -> bool:
    return address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified


def is_own(address: Address) -> bool:
    """Whether it is this machine's: a socket can be bound to it. Where that cannot be told, it is taken for one."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True
