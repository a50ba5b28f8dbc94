"""A hostile name, id and message through every way out of the command line."""

import io
import json
import re
import unicodedata
from typing import Any

import pytest
import yaml

from cli.progress import Progress
from cli.terminal import console
from common.text import clean
from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.conftest import Shell
from tests.unit.cli.fake import FakeProvider, refusal
from tests.unit.cli.samples import ended, running, step, vm

EVIL = "db[/old]\nweb: GRACEFUL\t:skull:\x1b[2J\x9b\x7f\u202e\u2066"
SHOWN = clean(EVIL)
COMMANDS = {
    "list": ("list",),
    "get": ("get", "x"),
    "forecast": ("forecast",),
    "operations": ("operations",),
    "shutdown": ("shutdown", "x"),
    "shutdown and go": ("shutdown", "x", "--no-wait"),
    "on": ("on", "x"),
    "extend": ("extend", "x", "60s"),
    "watch an operation": ("watch", "x"),
    "info": ("info",),
}


@pytest.fixture
def evil(provider: FakeProvider) -> FakeProvider:
    problem = pb.Problem(reason=pb.REASON_TOOLS_UNAVAILABLE, message=EVIL)
    machine = vm(
        EVIL, id=EVIL, node=EVIL, labels={EVIL: EVIL}, active_operation=EVIL, forecast=pb.Forecast(problems=[problem])
    )
    hook = pb.HookResult(name=EVIL, state=pb.HOOK_STATE_FAILED, output=EVIL)
    told: dict[str, Any] = {"id": EVIL, "steps": [step(EVIL)]}
    done = ended(EVIL, message=EVIL, verdict={"hooks": [hook]}, **told)
    provider.answers |= {
        "GetVM": machine,
        "ListVMs": pb.ListVMsResponse(vms=[machine]),
        "ForecastShutdown": pb.ForecastShutdownResponse(vms=[machine]),
        "ListOperations": pb.ListOperationsResponse(operations=[done]),
        "GetOperation": done,
        "ExtendOperation": running(EVIL, **told),
        "Shutdown": done,
        "PowerOn": done,
        "GetProviderInfo": pb.GetProviderInfoResponse(type=EVIL, version=EVIL, endpoint=EVIL),
    }
    return provider


def commands_of(printed: str) -> set[str]:
    """What a terminal would act upon, or show in another order."""
    return {c for c in printed if unicodedata.category(c) in {"Cc", "Cf"} and c != "\n"}


@pytest.mark.usefixtures("evil")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("output", ["table", "json", "yaml"])
def test_no_name_commands_the_terminal(vmpower: Shell, command: str, output: str) -> None:
    told = vmpower(*COMMANDS[command], "-o", output)
    assert commands_of(told.out) == commands_of(told.err) == set()
    assert told.out + told.err


@pytest.mark.usefixtures("evil")
@pytest.mark.parametrize("command", ["list", "get", "forecast", "operations", "info", "shutdown"])
def test_no_name_makes_a_line_of_its_own_or_is_taken_for_markup(vmpower: Shell, command: str) -> None:
    told = vmpower(*COMMANDS[command])
    assert SHOWN in told.out
    assert not re.search(r"^web: GRACEFUL", told.out + told.err, re.MULTILINE)


@pytest.mark.usefixtures("evil")
def test_programs_get_the_name_as_it_is(vmpower: Shell) -> None:
    assert json.loads(vmpower("get", "x", "-o", "json").out)["name"] == EVIL
    assert yaml.safe_load(vmpower("get", "x", "-o", "yaml").out)["name"] == EVIL


def test_a_refusal_is_one_line(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["GetVM"] = refusal(5, EVIL, "VM_NOT_FOUND")
    told = vmpower("get", "x")
    assert told.err.splitlines() == [f"vmpower: {SHOWN} [VM_NOT_FOUND]"]


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
def test_a_change_of_a_vm_is_shown_without_commands(vmpower: Shell, evil: FakeProvider, output: str) -> None:
    changed = [pb.WatchVMsResponse(changed=vm(EVIL)), pb.WatchVMsResponse(removed=EVIL), refusal(9, "over", "OVER")]
    evil.streams.append(changed)
    told = vmpower("watch", "-o", output)
    assert commands_of(told.out.replace("\t", " ")) == set()
    assert "db[/old]" in told.out


@pytest.mark.parametrize("name", ["db[/old]", ":skull:", "[red]db", "a\nb"])
def test_the_live_view_shows_a_name_as_it_is(name: str) -> None:
    screen = io.StringIO()
    progress = Progress(console(screen, width=200, force_terminal=True))
    with progress.live():
        progress.show(running(name))
    last = screen.getvalue().splitlines()
    assert any(clean(name) in line and "WAITING_FOR_GUEST" in line for line in last)
