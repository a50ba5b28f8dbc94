"""The table of remedies is whole."""

import re
import shlex
from itertools import chain

import pytest

from cli.doctor.finding import Check
from cli.doctor.remedies import ANY, REMEDIES, Remedy
from client.words import short
from protos.power.v1 import power_pb2 as pb

CAUSES = [short(pb.Cause, number) for number in pb.Cause.values() if number]
WORDS = {"uri", "vm", "id", "path", "tool", "sid", "address", "file", "host", "peer", "privilege", "place", "purpose"}
WORDS |= {"cert", "group", "vmpower", "program"}
"""What commands may have in braces: each is filled by a finding."""


def commands() -> list[str]:
    return list(chain.from_iterable(chain.from_iterable(each.commands.values()) for each in REMEDIES.values()))


@pytest.mark.parametrize("check", [*Check, *CAUSES])
def test_each_check_says_why_it_matters_and_who_acts(check: str) -> None:
    remedy = REMEDIES[check]
    assert remedy.why.endswith(".")
    assert remedy.who


def test_a_check_of_a_vm_is_a_cause_of_the_contract() -> None:
    assert set(REMEDIES) - set(Check) <= set(CAUSES)


@pytest.mark.parametrize("cause", ["AGENT_MISSING", "AGENT_STOPPED", "PAUSED", "LOCKED", "SUSPENDED"])
@pytest.mark.parametrize("hypervisor", ["libvirt", "proxmox", "vsphere", "sim"])
def test_what_may_happen_on_any_hypervisor_has_a_command_for_each(cause: str, hypervisor: str) -> None:
    assert REMEDIES[cause].of(hypervisor)


@pytest.mark.parametrize("command", commands())
def test_a_command_is_one_that_a_shell_can_read(command: str) -> None:
    filled = command.format_map(dict.fromkeys(WORDS, "word"))
    assert shlex.split(filled, comments=True)
    assert not re.search(r"[{}]", re.sub(r"'\{.*\}'", "", filled))


def test_a_hypervisors_own_commands_come_before_those_for_any() -> None:
    remedy = Remedy("Why.", "who", {"libvirt": ("a",), ANY: ("b",)})
    assert (remedy.of("libvirt"), remedy.of("sim")) == (("a",), ("b",))
