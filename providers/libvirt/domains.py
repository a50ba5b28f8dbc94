"""The calls to libvirt. All of them block, run on a session's thread and raise libvirtError.

Whether a command reached its goal is read from the state, never from the error: QEMU's driver refuses a
paused domain and a stopped one with the same words, and the test driver has a code of its own for both.
"""

import time
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

import libvirt

from providers.core.errors import VMNotFound
from providers.libvirt.states import Domain, Host, domain, dotted

AGENT_TOOK_IT_SECONDS = 50.0
"""libvirt waits 30 s for another agent call to end, gives up on a silent agent after 5 s, and on a guest that
its agent is shutting down after 60 s, with the same AGENT_UNRESPONSIVE (src/qemu/qemu_agent.c). After so
long, then, the agent has the request, and the guest just takes its time."""


def host(connection: Any) -> Host:
    library = f"libvirt {dotted(connection.getLibVersion())}"
    return Host(connection.getHostname(), library, connection.getType() == "QEMU")


def hypervisor(connection: Any) -> str:
    """The hypervisor and its version ("QEMU 7.2.22"); a libvirtd that just started takes seconds to find out."""
    return f"{connection.getType()} {dotted(connection.getVersion())}"


def find(connection: Any, vm_id: str) -> Any:
    """The binding's object for a domain.

    Raises:
        VMNotFound: it is not even a UUID.
    """
    try:
        UUID(vm_id)
    except ValueError:
        raise VMNotFound(f"{vm_id!r} is no UUID; name a VM by its id.", {"vm": vm_id}) from None
    return connection.lookupByUUIDString(vm_id)


def read(connection: Any, host: Host, vm_id: str) -> Domain:
    """One domain, with its addresses."""
    handle = find(connection, vm_id)
    return replace(_read(handle, host), addresses=_addresses(handle))


def read_all(connection: Any, host: Host) -> list[Domain]:
    """All domains; one that vanishes while we read is not there."""
    found = []
    for handle in connection.listAllDomains():
        try:
            found.append(_read(handle, host))
        except libvirt.libvirtError as error:
            if not _is_gone(error):
                raise
    return found


def power_on(connection: Any, vm_id: str) -> None:
    handle = find(connection, vm_id)
    wake = {libvirt.VIR_DOMAIN_PAUSED: handle.resume, libvirt.VIR_DOMAIN_PMSUSPENDED: handle.pMWakeup}
    try:
        wake.get(_state(handle), handle.create)()
    except libvirt.libvirtError:
        if _state(handle) not in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED):
            raise


def power_off(connection: Any, vm_id: str) -> bool:
    """End it: QEMU is first asked (SIGTERM), so that it writes out its disks' caches, then killed. False: it was off
    already."""
    handle = find(connection, vm_id)
    if _is_off(handle):
        if handle.hasManagedSaveImage():
            handle.managedSaveRemove()
        return False
    try:
        handle.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL)
    except libvirt.libvirtError:
        return not _is_off(handle) and _destroy(handle)
    return True


def ask(connection: Any, vm_id: str, flag: int) -> None:
    """Ask the guest to shut down. By the agent, this returns when the guest is gone or the agent has refused."""
    handle = find(connection, vm_id)
    asked = time.monotonic()
    try:
        handle.shutdownFlags(flag)
    except libvirt.libvirtError as error:
        silent = error.get_error_code() == libvirt.VIR_ERR_AGENT_UNRESPONSIVE
        taken = silent and time.monotonic() - asked >= AGENT_TOOK_IT_SECONDS
        if not taken and not _is_off(handle, libvirt.VIR_DOMAIN_SHUTDOWN):
            raise


def _read(handle: Any, host: Host) -> Domain:
    state, reason = handle.state()
    saved = state == libvirt.VIR_DOMAIN_SHUTOFF and bool(handle.hasManagedSaveImage())
    persistent = bool(handle.isPersistent())
    return domain(handle.XMLDesc(), state, reason, persistent=persistent, saved=saved, host=host)


def _addresses(handle: Any) -> tuple[str, ...]:
    """What libvirt's own DHCP servers leased to it; what is seen in ARP a guest could make up."""
    with suppress(libvirt.libvirtError):  # it is off, or the driver keeps no leases: then none is known
        leases = handle.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE)
        return tuple(address["addr"] for lease in leases.values() for address in lease["addrs"] or ())
    return ()


def _destroy(handle: Any) -> bool:
    try:
        handle.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT)
    except libvirt.libvirtError:
        if not _is_off(handle):
            raise
        return False
    return True


def _state(handle: Any) -> int:
    return int(handle.state()[0])


def _is_off(handle: Any, *as_good_as_off: int) -> bool:
    try:
        return _state(handle) in (libvirt.VIR_DOMAIN_SHUTOFF, *as_good_as_off)
    except libvirt.libvirtError as error:
        if _is_gone(error):
            return True
        raise


def _is_gone(error: Any) -> bool:
    return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)
