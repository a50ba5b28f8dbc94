"""What is read from libvirtd's log of calls. The histories themselves show the rest."""

from datetime import UTC, datetime

from tests.soak.libvirt import calls_in

LOG = """\
2026-11-27 23:41:46.874+0000: 4708: error : virGDBusGetSessionBus:126 : internal error: Unable to get session bus
2026-11-27 23:42:01.526+0000: 4695: debug : virDomainLookupByName:449 : conn=0x55c04393d090, name=web
2026-11-27 23:42:01.532+0000: 4697: debug : virDomainDestroyFlags:571 : dom=0x55c0, (VM: name=web, uuid=22cb), flags=0x1
"""


def test_each_call_about_a_domain_has_its_moment_its_name_and_the_domains() -> None:
    moment = datetime(2026, 11, 27, 23, 42, 1, 532000, UTC).timestamp()
    assert calls_in(LOG) == [(moment, "DestroyFlags", "web")]
