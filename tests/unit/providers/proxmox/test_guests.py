from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.proxmox.guests import Config, Guest, Rights, addresses, config, guest

ROW = {
    "id": "qemu/100",
    "vmid": 100,
    "type": "qemu",
    "name": "web",
    "node": "pve1",
    "status": "running",
    "uptime": 42,
    "template": 0,
}
EXTRAS = st.sampled_from(["fstrim_cloned_disks=1", "freeze-fs-on-backup=0", "type=isa", ""])


# A row


def test_a_row_is_a_guest() -> None:
    assert guest(ROW) == Guest("100", "qemu", "web", "pve1", "running", uptime=42)


def test_a_row_has_its_lock_its_ha_state_its_tags_and_its_pool() -> None:
    found = guest(ROW | {"lock": "backup", "hastate": "started", "tags": "a;b", "pool": "shop"})
    assert (found.lock, found.ha, found.tags, found.pool) == ("backup", "started", "a;b", "shop")


@pytest.mark.parametrize("template", [1, "1"])
def test_a_template_is_one(template: object) -> None:
    assert guest(ROW | {"template": template}).template


def test_a_guest_of_which_its_node_has_not_told_is_called_by_its_kind_and_number() -> None:
    row = {"id": "lxc/101", "vmid": 101, "type": "lxc", "node": "pve2", "status": "unknown"}
    assert guest(row) == Guest("101", "lxc", "lxc-101", "pve2", "unknown")


def test_a_guest_is_found_at_its_node() -> None:
    assert guest(ROW).path == "nodes/pve1/qemu/100"


@pytest.mark.parametrize(
    ("ha", "managed"), [(None, False), ("ignored", False), ("started", True), ("stopped", True), ("error", True)]
)
def test_a_guest_that_ha_ignores_is_not_managed(ha: str | None, managed: bool) -> None:
    assert guest(ROW | {"hastate": ha}).managed is managed


# Its addresses


def test_an_agents_interfaces_have_addresses() -> None:
    told = [
        {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}]},
        {"name": "ens18", "ip-addresses": [{"ip-address": "192.0.2.1"}, {"ip-address": "2001:db8::1"}]},
        {"name": "ens19", "hardware-address": "52:54:00:00:00:01"},
    ]
    assert addresses(told) == ("127.0.0.1", "192.0.2.1", "2001:db8::1")


def test_a_containers_interfaces_have_addresses_with_prefix_lengths() -> None:
    assert addresses([{"name": "eth0", "inet": "192.0.2.1/24", "inet6": "2001:db8::1/64"}]) == (
        "192.0.2.1",
        "2001:db8::1",
    )


@pytest.mark.parametrize("answer", [None, {}, "up", [None, 7], [{"ip-addresses": 7}], [{"ip-addresses": [7, {}]}]])
def test_whatever_else_a_guest_answers_is_no_address(answer: Any) -> None:
    assert addresses(answer) == ()


# Its configuration


def test_a_configuration_that_says_nothing_has_no_agent_and_has_acpi() -> None:
    assert config({}) == Config(agent=False, acpi=True, startup="", down=None, protection=False)


@pytest.mark.parametrize(
    ("agent", "enabled"),
    [
        (1, True),
        ("1", True),
        ("enabled=1", True),
        ("1,fstrim_cloned_disks=1", True),
        ("fstrim_cloned_disks=0,enabled=yes", True),
        ("type=isa,On", True),
        (0, False),
        ("0", False),
        ("enabled=0,fstrim_cloned_disks=1", False),
        ("0,type=virtio", False),
        ("type=virtio", False),
        ("", False),
    ],
)
def test_the_agent_is_enabled_by_its_propertys_first_value_or_by_name(agent: object, enabled: bool) -> None:
    assert config({"agent": agent}).agent is enabled


@given(st.booleans(), st.sampled_from(["", "enabled="]), st.lists(EXTRAS), st.randoms())
def test_whatever_else_the_agents_property_says_in_whatever_order_does_not_matter(
    enabled: bool, name: str, extras: list[str], random: Any
) -> None:
    parts = [f"{name}{int(enabled)}", *extras]
    random.shuffle(parts)
    assert config({"agent": ",".join(parts)}).agent is enabled


@pytest.mark.parametrize(("acpi", "on"), [(1, True), ("1", True), (0, False), ("0", False), ("no", False)])
def test_acpi_can_be_off(acpi: object, on: bool) -> None:
    assert config({"acpi": acpi}).acpi is on


@pytest.mark.parametrize(
    ("startup", "seconds"),
    [
        ("down=300", 300),
        ("order=2,up=30,down=300", 300),
        ("2,down=45", 45),
        ("down=45,order=1", 45),
        ("order=2,up=30", None),
        ("2", None),
        ("down=0", None),
        ("", None),
    ],
)
def test_the_down_timeout_is_that_of_the_startup_property(startup: str, seconds: int | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert (config({"startup": startup}).down, config({"startup": startup}).startup) == (expected, startup)


@pytest.mark.parametrize(
    ("smbios", "told"),
    [
        ("uuid=6D3AFE9C-6ECD-4F3D-9FC0-1B0B0E5F8A01", "6d3afe9c-6ecd-4f3d-9fc0-1b0b0e5f8a01"),
        ("base64=1,family=eA==,uuid=6d3afe9c-6ecd-4f3d-9fc0-1b0b0e5f8a01", "6d3afe9c-6ecd-4f3d-9fc0-1b0b0e5f8a01"),
        ("family=x", ""),
        (None, ""),
    ],
)
def test_the_uuid_of_its_firmware_is_told(smbios: str | None, told: str) -> None:
    assert config({"smbios1": smbios}).system_uuid == told


@pytest.mark.parametrize(("protection", "protected"), [(1, True), ("1", True), (0, False)])
def test_protection_is_told(protection: object, protected: bool) -> None:
    assert config({"protection": protection}).protection is protected


# Rights


@pytest.mark.parametrize(
    ("granted", "has"),
    [
        ({"/": {}, "/nodes": {"Sys.Audit": 1}}, True),
        ({"/": {"Sys.Audit": 1}}, True),
        ({"/": {"Sys.Audit": 0}}, False),
        ({"/": {"Sys.Audit": 1}, "/nodes": {}}, False),
        ({"/nodes": {"Sys.Audit": 1}, "/nodes/pve1": {}}, False),
        ({"/nodes/pve1": {"Sys.Audit": 0}}, True),
        ({"/nodes/pve2": {"Sys.Audit": 1}}, False),
        ({}, False),
    ],
)
def test_a_privilege_is_told_for_a_path_or_handed_down_to_it(granted: dict[str, dict[str, int]], has: bool) -> None:
    assert Rights(granted).has("Sys.Audit", "/nodes/pve1") is has


@pytest.mark.parametrize(("granted", "has"), [({"/": {"Sys.Audit": 0}}, True), ({"/nodes": {"Sys.Audit": 1}}, False)])
def test_a_privilege_on_the_root_is_told_there(granted: dict[str, dict[str, int]], has: bool) -> None:
    assert Rights(granted).has("Sys.Audit", "/") is has


def test_what_ha_ignores_while_it_is_disarmed_is_its_own_and_not_managed() -> None:
    web = Guest("100", "qemu", "web", "pve1", "running", ha="started", disarmed=True)
    assert (web.in_ha, web.managed) == (True, False)
