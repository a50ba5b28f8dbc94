"""Which kind of snapshot is taken, and how it is described."""

from xml.etree import ElementTree as ET

import pytest

from providers.core.errors import CommandFailed
from providers.libvirt.snapshots import Disk, definition, disks, memory_file


def test_name_and_description_arrive_as_they_were_given() -> None:
    root = ET.fromstring(definition("<&> ü", 'says "no"'))
    assert (root.findtext("name"), root.findtext("description")) == ("<&> ü", 'says "no"')
    assert root.find("memory") is None


def test_memory_in_a_file_is_said_so() -> None:
    memory = ET.fromstring(definition("s", "", "/disks/web.s.memory")).find("memory")
    assert memory is not None
    assert memory.attrib == {"snapshot": "external", "file": "/disks/web.s.memory"}


@pytest.mark.parametrize(
    ("found", "file"),
    [
        ([Disk("qcow2", "/disks/web.qcow2")], ""),
        ([Disk("qcow2", "/a.qcow2"), Disk("qcow2", "")], ""),
        ([Disk("raw", "/disks/web.img")], "/disks/web.s.memory"),
        ([Disk("raw", ""), Disk("qcow2", "/disks/data.qcow2")], "/disks/data.s.memory"),
        ([Disk("", "/disks/web")], "/disks/web.s.memory"),
    ],
)
def test_memory_goes_into_qcow2_disks_or_beside_the_first_file(found: list[Disk], file: str) -> None:
    assert memory_file(found, "s") == file


def test_memory_without_a_place_is_an_error() -> None:
    with pytest.raises(CommandFailed, match="leave the memory out"):
        memory_file([Disk("raw", "")], "s")


def test_only_disks_that_the_guest_writes_to_count() -> None:
    devices = (
        "<disk type='file'><driver type='qcow2'/><source file='/a.qcow2'/></disk>"
        "<disk type='block' device='disk'><driver type='raw'/><source dev='/dev/b'/></disk>"
        "<disk type='file' device='cdrom'><source file='/c.iso'/></disk>"
        "<disk type='file' device='disk'><source file='/d'/><readonly/></disk>"
        "<disk type='file'/>"
    )
    assert disks(f"<domain><devices>{devices}</devices></domain>") == [
        Disk("qcow2", "/a.qcow2"),
        Disk("raw", ""),
        Disk("", ""),
    ]
