"""The rig itself: what guests do when nobody of ours is there, and that nothing is left of it."""

import time
from collections.abc import Iterator

import pytest

from tests.rigs.vsphere.vcenter import VCenter


@pytest.fixture(scope="module")
def rig() -> Iterator[VCenter]:
    with VCenter({"web": {"shutdown_time": "500ms", "boot_time": "200ms"}}) as rig:
        yield rig


def test_a_guest_whose_plug_is_pulled_is_off_at_once(rig: VCenter) -> None:
    before = time.time()
    rig.power("web", "off")
    shown = rig.show("web")
    assert (shown["power"], shown["off_cause"]) == ("poweredOff", "hand")
    assert before <= shown["off_at"] <= time.time()


def test_a_behaviour_that_does_not_exist_is_an_error(rig: VCenter) -> None:
    with pytest.raises(ValueError, match="shutdwon_time"):
        rig.set("web", shutdwon_time="1s")


def test_nothing_is_left_of_a_rig() -> None:
    with VCenter({"web": {}}) as rig:
        assert rig.folder.exists()
    assert not rig.folder.exists()
