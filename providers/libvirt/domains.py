"""The calls to libvirt. All of them block, run on a session's thread and raise libvirtError.

Whether a command reached its goal is read from the state, never from the error: QEMU's driver refuses a
paused domain and a stopped one with the same words, and the test driver has a code of its own for both.
"""

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import libvirt

from providers.core.errors import CommandFailed, Locked, VMNotFound
from providers.core.names import is_uuid
from providers.libvirt.states import (
    ANOTHER_JOB,
    JOBS,
    MIGRATED,
    MOVED,
    RUN_NAMESPACE,
    Agent,
    Domain,
    Host,
    agent_of,
    domain,
    dotted,
    run_of,
)

NONE_KNOWN: Mapping[str, Domain] = MappingProxyType({})

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
    if not is_uuid(vm_id):
        raise VMNotFound(f"{vm_id!r} is no UUID; name a VM by its id.", {"vm": vm_id})
    return connection.lookupByUUIDString(vm_id)


def read(connection: Any, host: Host, vm_id: str, job: bool = False) -> Domain:
    """One domain, with its addresses. `job`: also what refuses ACPI, if anything; one call more."""
    handle = find(connection, vm_id)
    state, reason = handle.state()
    saved = state == libvirt.VIR_DOMAIN_SHUTOFF and bool(handle.hasManagedSaveImage())
    persistent = bool(handle.isPersistent())
    found = domain(handle.XMLDesc(), state, reason, persistent=persistent, saved=saved, host=host)
    return replace(found, addresses=_addresses(handle), job=_job(handle) if job and found.runs else "")


def read_all(connection: Any, host: Host, known: Mapping[str, Domain] = NONE_KNOWN) -> list[Domain]:
    """All domains: three calls, and one for the XML of each that runs, or is not yet known as it is. One that vanishes
    while we read is not there."""
    saved = _listed(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)
    transient = _listed(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT)
    found = list[Domain]()
    for handle, values in _all(connection):
        vm_id = handle.UUIDString()
        same = known.get(vm_id)
        with _unless_gone():
            state, reason = (values["state.state"], values["state.reason"]) if values else handle.state()
            persistent = vm_id not in transient
            image = state == libvirt.VIR_DOMAIN_SHUTOFF and vm_id in saved
            if same and not same.runs and same.is_as(handle.name(), state, reason, persistent, image):
                found.append(same)
            else:
                xml = handle.XMLDesc()
                found.append(domain(xml, state, reason, persistent=persistent, saved=image, host=host))
    return found


def mark_run(connection: Any, vm_id: str) -> str:
    """Give a domain's present run a mark, by which it is told from every other run: libvirt tells no moment of its
    start, and libvirtd counts from anew when it is started itself. The mark goes with the running domain.

    Whoever marks it at the same moment appends another mark, and the first one counts for all. Returns the run.
    """
    handle = find(connection, vm_id)
    namespace = RUN_NAMESPACE + secrets.token_hex(8)
    live = libvirt.VIR_DOMAIN_AFFECT_LIVE
    handle.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, "<run/>", "vmpower", namespace, live)
    return run_of(handle.XMLDesc())


def power_on(connection: Any, vm_id: str) -> None:
    """Start, resume or wake it.

    Raises:
        CommandFailed: it was moved to another host: two of it would run on one disk.
    """
    handle = find(connection, vm_id)
    wake = {libvirt.VIR_DOMAIN_PAUSED: handle.resume, libvirt.VIR_DOMAIN_PMSUSPENDED: handle.pMWakeup}
    try:
        wake.get(_state_here(handle), handle.create)()
    except libvirt.libvirtError:
        if _state_here(handle) not in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED):
            raise


def power_off(connection: Any, vm_id: str) -> bool:
    """End it: QEMU is first asked (SIGTERM), so that it writes out its disks' caches, then killed; of one whose memory
    is saved, discard that. False: it was off already, its guest had shut down, or somebody else was faster.

    Raises:
        CommandFailed: it was moved to another host.
    """
    handle = find(connection, vm_id)
    state = _state_here(handle)
    if state == libvirt.VIR_DOMAIN_SHUTOFF:
        discarded = bool(handle.hasManagedSaveImage())
        if discarded:
            handle.managedSaveRemove()
        return discarded
    try:
        handle.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL)
    except libvirt.libvirtError as error:
        terminated = error.get_error_code() in (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_OPERATION_TIMEOUT)
        return _destroy(handle) or terminated  # by SIGTERM, which QEMU has heeded late
    return bool(state != libvirt.VIR_DOMAIN_SHUTDOWN)


def save(connection: Any, vm_id: str) -> bool:
    """Save its memory as a managed save, which its next start resumes. False: it was saved or off already, or went off
    meanwhile.

    Raises:
        CommandFailed: it was moved to another host.
    """
    handle = find(connection, vm_id)
    if _state_here(handle) == libvirt.VIR_DOMAIN_SHUTOFF:
        return False
    try:
        handle.managedSave()
    except libvirt.libvirtError:
        if not _is_off(handle):
            raise
        return False
    return True


def kill(connection: Any, vm_id: str) -> bool:
    """End it without asking QEMU first. False: it was off by then.

    Raises:
        CommandFailed: it was moved to another host.
    """
    return _destroy(find(connection, vm_id))


def ask(connection: Any, vm_id: str, flag: int) -> None:
    """Ask the guest to shut down. By the agent, this returns when the guest is gone or the agent has refused.

    Raises:
        CommandFailed: it was moved to another host.
        Locked: its agent has left.
    """
    handle = find(connection, vm_id)
    asked = time.monotonic()
    try:
        handle.shutdownFlags(flag)
    except libvirt.libvirtError as error:
        silent = error.get_error_code() == libvirt.VIR_ERR_AGENT_UNRESPONSIVE
        taken = silent and time.monotonic() - asked >= AGENT_TOOK_IT_SECONDS
        if taken or _is_off(handle, libvirt.VIR_DOMAIN_SHUTDOWN):
            return
        require_agent(handle, error)
        raise


def require_agent(handle: Any, error: Any) -> None:
    """See whether the agent did not answer because it has left, as one does that is restarted.

    Raises:
        Locked: it has.
    """
    silent = error.get_error_code() == libvirt.VIR_ERR_AGENT_UNRESPONSIVE
    if silent and agent_of(handle.XMLDesc()) is Agent.DISCONNECTED:
        raise Locked(f"Its guest agent has left ({error}); it is asked when it is back.") from error


def _listed(connection: Any, flag: int) -> frozenset[str]:
    return frozenset(handle.UUIDString() for handle in connection.listAllDomains(flag))


def _all(connection: Any) -> Sequence[tuple[Any, Mapping[str, int]]]:
    """Every domain, with its state where the driver tells all at once."""
    try:
        return connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)  # type: ignore[no-any-return]
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
    return [(handle, {}) for handle in connection.listAllDomains()]


def _job(handle: Any) -> str:
    """What refuses ACPI now."""
    try:
        stats = handle.jobStats()
    except libvirt.libvirtError as error:
        match error.get_error_code():
            case libvirt.VIR_ERR_OPERATION_TIMEOUT | libvirt.VIR_ERR_RESOURCE_BUSY:
                return ANOTHER_JOB
            case libvirt.VIR_ERR_NO_SUPPORT | libvirt.VIR_ERR_OPERATION_INVALID:
                return ""  # the driver knows no jobs, or it does not run any more
        raise
    if stats["type"] == libvirt.VIR_DOMAIN_JOB_NONE:
        return ""
    return JOBS.get(stats.get("operation"), ANOTHER_JOB)


def agent_addresses(connection: Any, vm_id: str) -> tuple[str, ...]:
    """What its guest agent says; the guest may make it up."""
    return _told(find(connection, vm_id).interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT))


def _addresses(handle: Any) -> tuple[str, ...]:
    """What libvirt's own DHCP servers leased to it; what is seen in ARP a guest could make up."""
    with suppress(libvirt.libvirtError):  # it is off, or the driver keeps no leases: then none is known
        return _told(handle.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE))
    return ()


def _told(interfaces: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(address["addr"] for interface in interfaces.values() for address in interface["addrs"] or ())


def _destroy(handle: Any) -> bool:
    """Kill it; False: it was off by then."""
    if _is_off(handle):
        return False
    try:
        handle.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT)
    except libvirt.libvirtError:
        if not _is_off(handle):
            raise
        return False
    return True


def _state_here(handle: Any) -> int:
    """Its state on this host.

    Raises:
        CommandFailed: it was moved to another one.
    """
    state, reason = handle.state()
    if (state, reason) == MIGRATED:
        raise CommandFailed(MOVED)
    return int(state)


def _is_off(handle: Any, *as_good_as_off: int) -> bool:
    try:
        return _state_here(handle) in (libvirt.VIR_DOMAIN_SHUTOFF, *as_good_as_off)
    except libvirt.libvirtError as error:
        if _is_gone(error):
            return True
        raise


@contextmanager
def _unless_gone() -> Iterator[None]:
    """Leave out a domain that vanishes meanwhile."""
    try:
        yield
    except libvirt.libvirtError as error:
        if not _is_gone(error):
            raise


def _is_gone(error: Any) -> bool:
    return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)
