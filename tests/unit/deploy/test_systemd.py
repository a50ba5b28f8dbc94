"""The units of deploy/systemd: their order, and that their programs take the flags."""

import configparser
import shlex
from pathlib import Path

import pytest

from common.settings import ProcessSettings
from controller.config import Settings as ControllerSettings
from providers.libvirt.config import LibvirtSettings

UNITS = Path(__file__).parents[3] / "deploy" / "systemd"
PROGRAMS: dict[str, tuple[type[ProcessSettings], int]] = {
    "vmpower-libvirt": (LibvirtSettings, 2),
    "vmpower-controller": (ControllerSettings, 1),
}
"""By unit: what reads its flags, and how many words come before them."""


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # systemd's keys have capitals
    parser.read(UNITS / f"{name}.service")
    return parser


def after(name: str) -> list[str]:
    return unit(name)["Unit"]["After"].split()


def test_the_provider_ends_before_libvirt_guests_and_begins_after_it() -> None:
    assert "libvirt-guests.service" in after("vmpower-libvirt")


def test_the_controller_ends_before_its_provider() -> None:
    assert after("vmpower-controller") == ["vmpower-libvirt.service"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_its_program_takes_the_flags(name: str) -> None:
    settings, words = PROGRAMS[name]
    command = shlex.split(unit(name)["Service"]["ExecStart"])
    assert settings.load(name, command[words:])


def test_every_unit_is_tried_here() -> None:
    assert {file.stem for file in UNITS.glob("*.service")} == PROGRAMS.keys()
