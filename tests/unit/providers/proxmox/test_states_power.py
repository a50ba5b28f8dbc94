from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.core.adapter import PowerState
from providers.core.errors import HypervisorUnavailable, UnknownNativeState
from providers.proxmox.guests import Guest
from providers.proxmox.states import STATES, power_state, require_known

WEB = Guest("100", "qemu", "web", "pve1", "running")
CT = Guest("101", "lxc", "cache", "pve1", "running")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("running", PowerState.ON),
        ("stopped", PowerState.OFF),
        ("paused", PowerState.PAUSED),
        ("prelaunch", PowerState.PAUSED),
        ("io-error", PowerState.PAUSED),
        ("guest-panicked", PowerState.PAUSED),
        ("suspended", PowerState.SUSPENDED),
        ("unknown", PowerState.UNKNOWN),
    ],
)
def test_qemus_run_state_is_its_power(status: str, state: PowerState) -> None:
    assert power_state(replace(WEB, status=status)) is state


def test_qemu_whose_guest_is_down_still_runs() -> None:
    assert power_state(replace(WEB, status="shutdown")) is PowerState.ON


@given(st.sampled_from(["qemu", "lxc"]), st.text(), st.sampled_from(["", "suspended", "backup"]))
def test_an_unknown_run_state_is_neither_on_nor_off(kind: str, status: str, lock: str) -> None:
    if status not in STATES[kind]:
        assert power_state(replace(WEB, kind=kind, status=status, lock=lock)) is PowerState.UNKNOWN


@given(st.text().filter(lambda status: status not in STATES["qemu"]))
def test_an_unknown_run_state_raises_when_it_must_be_known(status: str) -> None:
    with pytest.raises(UnknownNativeState) as caught:
        require_known(replace(WEB, status=status))
    assert repr(status) in caught.value.message


def test_a_run_state_of_qemu_is_unknown_of_a_container() -> None:
    with pytest.raises(UnknownNativeState, match="'paused'"):
        require_known(replace(CT, status="paused"))


def test_a_guest_whose_node_is_away_is_an_outage_when_its_power_must_be_known() -> None:
    with pytest.raises(HypervisorUnavailable, match="node pve1 does not answer"):
        require_known(replace(WEB, status="unknown"))
