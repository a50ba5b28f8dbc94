"""The settings that the package brings, and those in its units, are settings that there are."""

import re

import pytest

from common.settings import ProcessSettings
from controller.config import Settings as ControllerSettings
from providers.libvirt.config import LibvirtSettings
from providers.proxmox.config import ProxmoxSettings
from providers.sim.config import SimSettings
from providers.vsphere.config import VsphereSettings
from tests.rigs.process import ROOT

SETTINGS: dict[str, type[ProcessSettings]] = {
    "provider-libvirt": LibvirtSettings,
    "provider-proxmox": ProxmoxSettings,
    "provider-sim": SimSettings,
    "provider-vsphere": VsphereSettings,
    "controller": ControllerSettings,
}
UNITS: dict[str, type[ProcessSettings]] = {
    "vmpower-provider@.service": SimSettings,
    "vmpower-controller.service": ControllerSettings,
    "vmpower-provider@vsphere.service.d/vsphere.conf": VsphereSettings,
    "vmpower-provider@proxmox.service.d/proxmox.conf": ProxmoxSettings,
}


def variables(settings: type[ProcessSettings]) -> set[str]:
    return {f"VMPOWER_{name.upper()}" for name in settings.model_fields}


def test_every_program_has_its_settings() -> None:
    assert {file.stem for file in (ROOT / "packaging" / "conf").iterdir()} == set(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_file_of_settings_names_only_settings_that_there_are(name: str) -> None:
    text = (ROOT / "packaging" / "conf" / f"{name}.conf").read_text()
    assert set(re.findall(r"^#?(VMPOWER_\w+)=", text, re.MULTILINE)) <= variables(SETTINGS[name])


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_sets_only_settings_that_there_are(unit: str) -> None:
    text = (ROOT / "packaging" / "systemd" / unit).read_text()
    assert set(re.findall(r"^Environment=(VMPOWER_\w+)=", text, re.MULTILINE)) <= variables(UNITS[unit])
