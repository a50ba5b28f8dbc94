import json
from pathlib import Path

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.conftest import Shell
from tests.unit.cli.fake import FakeProvider
from tests.unit.cli.samples import vm


def test_the_shared_options_may_stand_before_the_command(address: str, provider: FakeProvider) -> None:
    provider.answers["ListVMs"] = pb.ListVMsResponse(vms=[vm("web")])
    ended = Shell("")("--provider", address, "-o", "json", "list")
    assert json.loads(ended.out)[0]["name"] == "web"


def test_the_option_wins_over_the_environment(address: str, tmp_path: Path) -> None:
    elsewhere = Shell(f"unix://{tmp_path}/nobody.sock")
    assert elsewhere("info").code == 5
    assert elsewhere("info", "--provider", address).code == 0


def test_nobody_listening_exits_5_with_the_address_and_what_to_check(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/nobody.sock"
    ended = Shell(address)("list")
    assert ended.code == 5
    assert ended.err.startswith(f"vmpower: No provider answers at {address}.\n  Check that the provider runs")


def test_an_unknown_command_is_a_usage_error(vmpower: Shell) -> None:
    assert vmpower("explode").code == 2


def test_an_argument_that_is_not_utf_8_is_a_usage_error(vmpower: Shell, provider: FakeProvider) -> None:
    ended = vmpower("get", "\udcff")
    assert (ended.code, ended.err) == (2, "vmpower: An argument is not UTF-8 text.\n")
    assert provider.asked == []


@pytest.mark.parametrize(("words", "option"), [(["help"], ["-h"]), (["help", "shutdown"], ["shutdown", "-h"])])
def test_help_is_a_command_too(words: list[str], option: list[str]) -> None:
    asked, usual = Shell("")(*words), Shell("")(*option)
    assert (asked.code, asked.out) == (0, usual.out)


def test_help_for_a_command_that_there_is_not_is_a_usage_error() -> None:
    ended = Shell("")("help", "explode")
    assert (ended.code, "No such command 'explode'" in ended.err) == (2, True)
