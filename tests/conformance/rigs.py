"""Servers that the suite can start by itself; the only file here that knows how any of them comes about."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.conformance.target import Known, Target
from tests.rigs.process import Provider

TARGETS = Path(__file__).parent / "targets"


@contextmanager
def _served(by: Provider, roles: str) -> Iterator[Target]:
    with by as provider:
        yield Target(address=provider.address, known=Known.load(TARGETS / roles), log=provider.log)


def _sim() -> AbstractContextManager[Target]:
    script = str(TARGETS / "sim-guests.yaml")
    return _served(Provider("sim", "--allow-guest-exec", "--script", script), "sim.yaml")


@contextmanager
def _qemu() -> Iterator[Target]:
    # Imported here: whoever tests a server of their own needs no libvirt.
    from tests.rigs.guests.domain import Guest  # noqa: PLC0415
    from tests.rigs.libvirtd import Libvirtd  # noqa: PLC0415

    guests = (
        Guest("agent", disk=True),
        Guest("acpi", agent="off"),
        Guest("deaf", agent="off", acpi=False),
        Guest("unreachable", agent="off", acpi_feature=False),
        Guest("slow", shutdown_delay=4),
        Guest("spare", agent="off"),
        Guest("gäste-☕", agent="off"),
    )
    with Libvirtd() as rig:
        for guest in guests:
            rig.define(guest)
        with _served(Provider("libvirt", "--allow-guest-exec", "--uri", rig.uri), "qemu.yaml") as target:
            yield target


def _libvirt_test() -> AbstractContextManager[Target]:
    return _served(Provider("libvirt", "--uri", "test:///default"), "libvirt-test.yaml")


@contextmanager
def _vsphere() -> Iterator[Target]:
    from tests.rigs.vsphere.provider import provider  # noqa: PLC0415 - nor a vCenter
    from tests.rigs.vsphere.vcenter import VCenter  # noqa: PLC0415

    quick: dict[str, object] = {"boot_time": "200ms", "shutdown_time": "200ms"}
    vms: dict[str, dict[str, object]] = {
        "agent": quick,
        "deaf": quick | {"ignores": True},
        "unreachable": quick | {"tools": "not_running"},
        "slow": quick | {"shutdown_time": "1s"},
        "spare": quick | {"power": "off"},
        "twin-1": {"name": "twin", "folder": "a"},
        "twin-2": {"name": "twin", "folder": "b"},
        "golden": {"template": True, "power": "off"},
        "Gäste-Server ☕": quick,
    }
    with VCenter(vms) as vcenter, _served(provider(vcenter), "vsphere.yaml") as target:
        yield target


@contextmanager
def _proxmox() -> Iterator[Target]:
    from tests.rigs.proxmox.cluster import Cluster  # noqa: PLC0415 - nor a Proxmox VE
    from tests.rigs.proxmox.provider import provider  # noqa: PLC0415

    guests: dict[str, dict[str, object]] = {
        "agent": {"agent": "answers"},
        "acpi": {},
        "deaf": {"ignores": True},
        "unreachable": {"acpi": False},
        "slow": {"agent": "answers", "shutdown_secs": 3},
        "spare": {"power": "off"},
        "twin-1": {"name": "twin"},
        "twin-2": {"name": "twin", "kind": "lxc", "node": "pve2"},
        "golden": {"template": True, "power": "off"},
    }
    often = ("--active-interval=200ms", "--idle-interval=1s")
    with Cluster(guests) as cluster, _served(provider(cluster, *often), "proxmox.yaml") as target:
        yield target


RIGS: Mapping[str, Callable[[], AbstractContextManager[Target]]] = {
    "sim": _sim,
    "libvirt-test": _libvirt_test,
    "qemu": _qemu,
    "vsphere": _vsphere,
    "proxmox": _proxmox,
}


def start(name: str) -> AbstractContextManager[Target]:
    """A server that runs until the context is left."""
    return RIGS[name]()
