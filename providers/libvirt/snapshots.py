"""Snapshots of a domain.

Without memory: external and of the disks only, for that works for every format, running or not, and
takes milliseconds; the guest's file systems are frozen meanwhile if its agent can. The disk as it was stays
in its file, and the guest goes on in a new one beside it.

With memory: internal where all disks are qcow2, so that nothing but the disks has to be kept; otherwise
external, with the memory in a file beside the first disk. The guest is halted while its memory is saved. A
VM that is off has no memory to save.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from providers.core.errors import CommandFailed
from providers.libvirt.domains import find

_ATOMIC = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
_DISKS = _ATOMIC | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
_FROZEN = _DISKS | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that the guest can write to. `file` is empty where it is something else."""

    format: str
    file: str


def take(connection: Any, vm_id: str, name: str, description: str, include_memory: bool) -> None:
    """Take a snapshot; blocks until it is complete.

    Raises:
        CommandFailed: the VM has no disk.
    """
    handle = find(connection, vm_id)
    found = disks(handle.XMLDesc())
    if not found:
        raise CommandFailed("The VM has no disk that it writes to; its owner leaves the snapshot out.")
    if include_memory and handle.isActive():
        place = memory_file(found, name)
        handle.snapshotCreateXML(definition(name, description, place), _ATOMIC if place else 0)
        return
    xml = definition(name, description)
    try:
        handle.snapshotCreateXML(xml, _FROZEN)
    except libvirt.libvirtError:  # no agent, or one that cannot freeze: as a power cut would leave the disks
        handle.snapshotCreateXML(xml, _DISKS)


def disks(xml: str) -> list[Disk]:
    found = ET.fromstring(xml).iterfind("devices/disk")  # noqa: S314 - libvirt's own output
    return [_disk(d) for d in found if d.get("device", "disk") == "disk" and d.find("readonly") is None]


def definition(name: str, description: str, memory_file: str = "") -> str:
    """A snapshot's XML (https://libvirt.org/formatsnapshot.html)."""
    root = ET.Element("domainsnapshot")
    ET.SubElement(root, "name").text = name
    ET.SubElement(root, "description").text = description
    if memory_file:
        ET.SubElement(root, "memory", snapshot="external", file=memory_file)
    return ET.tostring(root, encoding="unicode")


def memory_file(found: list[Disk], name: str) -> str:
    """Where an external snapshot keeps the memory; empty: an internal one keeps it in the disks.

    Raises:
        CommandFailed: there is no place for it.
    """
    if all(disk.format == "qcow2" for disk in found):
        return ""
    for disk in found:
        if disk.file:
            return str(PurePosixPath(disk.file).with_suffix(f".{name}.memory"))
    raise CommandFailed("The VM's disks are no files, so its memory has no place; leave the memory out.")


def _disk(disk: ET.Element) -> Disk:
    driver, source = disk.find("driver"), disk.find("source")
    return Disk(
        format="" if driver is None else driver.get("type", ""),
        file="" if source is None else source.get("file", ""),
    )
