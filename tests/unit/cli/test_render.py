import json

import yaml

from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.conftest import Shell
from tests.unit.cli.fake import FakeProvider
from tests.unit.cli.samples import ended, vm


def test_a_piped_table_is_never_folded(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["ListVMs"] = pb.ListVMsResponse(vms=[vm("x" * 300)])
    assert len(vmpower("list").out.splitlines()) == 2


def test_yaml_says_the_same_as_json(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["GetVM"] = vm("straße")
    as_yaml, as_json = vmpower("get", "x", "-o", "yaml"), vmpower("get", "x", "-o", "json")
    assert yaml.safe_load(as_yaml.out) == json.loads(as_json.out)
    assert "straße" in as_yaml.out
    assert "straße" in as_json.out


def test_a_name_cannot_command_the_terminal(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["GetVM"] = vm("evil\x1b[2J[red]")
    assert r"evil\x1b[2J[red]" in vmpower("get", "evil").out


def test_lines_of_a_piped_table_have_no_trailing_blanks(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["ListVMs"] = pb.ListVMsResponse(vms=[vm("web"), vm("db")])
    lines = vmpower("list").out.splitlines()
    assert lines == [line.rstrip() for line in lines]


def test_a_verdict_as_yaml_is_the_operation(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["Shutdown"] = ended()
    assert yaml.safe_load(vmpower("shutdown", "web", "-o", "yaml").out)["verdict"]["outcome"] == "GRACEFUL"


def test_labels_are_shown_in_order(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["GetVM"] = vm("web", labels={"b": "2", "a": "1"})
    assert "a=1, b=2" in vmpower("get", "web").out
