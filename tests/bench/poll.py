"""The control: how one learns of a stop who asks for a domain's state each two seconds, as other tools do."""

import time

import libvirt

from tests.bench.control import INTERVAL


def poll(uri: str, vm_id: str, *, ask: bool = False) -> float:
    """Look at a domain each two seconds until it is off, and return when that was seen (seconds since 1970).

    `ask`: press its power button first.
    """
    connection = libvirt.open(uri)
    try:
        domain = connection.lookupByUUIDString(vm_id)
        if ask:
            domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        while domain.state()[0] != libvirt.VIR_DOMAIN_SHUTOFF:
            time.sleep(INTERVAL)
        return time.time()
    finally:
        connection.close()
