"""What is read from libvirtd's log of calls, and from consoles. The histories themselves show the rest."""

from datetime import UTC, datetime

import pytest

from tests.soak.libvirt import calls_in, heard_since

LOG = """\
2026-11-27 23:41:46.874+0000: 4708: error : virGDBusGetSessionBus:126 : internal error: Unable to get session bus
2026-11-27 23:42:01.526+0000: 4695: debug : virDomainLookupByName:449 : conn=0x55c04393d090, name=web
2026-11-27 23:42:01.532+0000: 4697: debug : virDomainDestroyFlags:571 : dom=0x55c0, (VM: name=web, uuid=22cb), flags=0x1
"""
PRESSED = "guest web: power button pressed\n"


def test_each_call_about_a_domain_has_its_moment_its_name_and_the_domains() -> None:
    moment = datetime(2026, 11, 27, 23, 42, 1, 532000, UTC).timestamp()
    assert calls_in(LOG) == [(moment, "DestroyFlags", "web")]


def heard_in_parts(*parts: str) -> list[str]:
    """What is heard of a console that is read each time it has printed one more part."""
    read, heard = "", list[str]()
    for part in parts:
        heard += heard_since(read, read + part)
        read += part
    return heard


@pytest.mark.parametrize("cut", range(len(PRESSED) + 1))
def test_a_line_that_is_read_in_two_parts_is_heard_once(cut: int) -> None:
    assert heard_in_parts("guest web: ready\n" + PRESSED[:cut], PRESSED[cut:] + "guest web: powering off\n") == ["ACPI"]


def test_each_line_is_heard() -> None:
    assert heard_in_parts(PRESSED, PRESSED + "guest web: agent asked for shutdown\n") == ["ACPI", "ACPI", "GUEST_AGENT"]
