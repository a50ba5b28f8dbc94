"""The command line where the configuration names several providers."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.conftest import Ended, Shell
from tests.unit.cli.fake import FakeProvider, not_found, serving
from tests.unit.cli.samples import ended, running, vm


def fake(*names: str) -> FakeProvider:
    """A provider of these VMs; their ids are theirs alone."""
    provider = FakeProvider()
    vms = {key: vm(name) for name in names for key in (name, f"id-{name}")}
    provider.answers |= {
        "ListVMs": pb.ListVMsResponse(vms=[vm(name) for name in names]),
        "GetVM": lambda request: vms.get(request.vm) or not_found("vm", request.vm),
        "ForecastShutdown": pb.ForecastShutdownResponse(vms=[vm(name) for name in names]),
        "Shutdown": lambda request: ended(request.vm.removeprefix("id-"), id=f"op-{request.vm}"),
        "ListOperations": pb.ListOperationsResponse(operations=[ended(name) for name in names]),
        "GetOperation": lambda request: not_found("operation", request.id),
    }
    return provider


@pytest.fixture
def lab() -> FakeProvider:
    return fake("web", "db")


@pytest.fixture
def pve() -> FakeProvider:
    return fake("mail", "db")


@pytest.fixture
def vmpower(lab: FakeProvider, pve: FakeProvider, own_configuration: Path, tmp_path: Path) -> Iterator[Shell]:
    own_configuration.parent.mkdir(parents=True)
    with ExitStack() as stack:
        for name, provider in (("lab", lab), ("pve", pve)):
            stack.enter_context(serving(provider, f"unix://{tmp_path}/{name}.sock"))
        places = [f"  {name}: {{address: 'unix://{tmp_path}/{name}.sock'}}\n" for name in ("lab", "pve")]
        own_configuration.write_text("providers:\n" + "".join(places))
        yield Shell("")


@pytest.fixture
def away(own_configuration: Path, tmp_path: Path, vmpower: Shell) -> None:
    """A third provider, which does not answer."""
    with own_configuration.open("a") as file:
        file.write(f"  far: {{address: 'unix://{tmp_path}/far.sock'}}\n")


def shut_down(provider: FakeProvider) -> list[str]:
    return [request.vm for request in provider.requests("Shutdown")]


def rows(done: Ended) -> list[list[str]]:
    return [line.split()[:2] for line in done.out.splitlines()]


@pytest.mark.parametrize("command", ["list", "forecast"])
def test_all_providers_are_asked_and_a_column_names_them(vmpower: Shell, command: str) -> None:
    expected = [["PROVIDER", "NAME"], ["lab", "web"], ["lab", "db"], ["pve", "mail"], ["pve", "db"]]
    assert rows(vmpower(command)) == expected


def test_json_names_the_provider_of_each(vmpower: Shell) -> None:
    listed = json.loads(vmpower("list", "-o", "json").out)
    assert [(each["provider"], each["name"]) for each in listed] == [
        ("lab", "web"),
        ("lab", "db"),
        ("pve", "mail"),
        ("pve", "db"),
    ]


def test_a_provider_that_is_given_is_asked_alone_and_without_a_column(vmpower: Shell) -> None:
    assert rows(vmpower("list", "--provider", "pve"))[:2] == [["NAME", "ID"], ["mail", "id-mail"]]


@pytest.mark.usefixtures("away")
def test_one_that_is_away_is_a_line_and_the_others_are_shown(vmpower: Shell) -> None:
    done = vmpower("list")
    assert done.code == 5
    assert "vmpower: far: No provider answers at" in done.err
    assert ["pve", "db"] in rows(done)


def test_operations_of_all_are_shown_newest_first(vmpower: Shell, lab: FakeProvider, pve: FakeProvider) -> None:
    old, new = ended("old"), ended("new")
    new.create_time.seconds += 60
    lab.answers["ListOperations"] = pb.ListOperationsResponse(operations=[old])
    pve.answers["ListOperations"] = pb.ListOperationsResponse(operations=[new])
    assert rows(vmpower("operations"))[1:] == [["pve", "op-new"], ["lab", "op-old"]]


def test_info_shows_each(vmpower: Shell) -> None:
    assert [line for line in vmpower("info").out.splitlines() if line.startswith("Provider")] == [
        "Provider    lab",
        "Provider    pve",
    ]


def test_a_name_that_is_unique_over_all_needs_no_prefix(vmpower: Shell, pve: FakeProvider) -> None:
    done = vmpower("shutdown", "mail")
    assert (done.code, shut_down(pve)) == (0, ["id-mail"])
    assert done.out.startswith("pve/mail: GRACEFUL")


def test_several_vms_go_down_across_providers(vmpower: Shell, lab: FakeProvider, pve: FakeProvider) -> None:
    assert vmpower("shutdown", "web", "mail", "pve/db").code == 0
    assert (shut_down(lab), sorted(shut_down(pve))) == (["id-web"], ["id-db", "id-mail"])


def test_a_name_that_two_providers_have_is_refused_with_both_ways_to_write_it(
    vmpower: Shell, lab: FakeProvider, pve: FakeProvider
) -> None:
    done = vmpower("shutdown", "db")
    assert (done.code, shut_down(lab), shut_down(pve)) == (2, [], [])
    assert "write lab/db or pve/db" in done.err


def test_the_default_has_the_first_word_on_a_name(
    vmpower: Shell, lab: FakeProvider, pve: FakeProvider, own_configuration: Path
) -> None:
    own_configuration.write_text("default: pve\n" + own_configuration.read_text())
    assert vmpower("shutdown", "db").code == 0
    assert (shut_down(lab), shut_down(pve)) == ([], ["id-db"])


@pytest.mark.usefixtures("away")
def test_nothing_is_done_while_one_that_may_have_the_name_too_is_silent(vmpower: Shell, lab: FakeProvider) -> None:
    done = vmpower("shutdown", "web")
    assert (done.code, shut_down(lab)) == (5, [])
    assert "write PROVIDER/web" in done.err


@pytest.mark.usefixtures("away")
def test_a_prefix_may_name_the_only_provider_too(vmpower: Shell, lab: FakeProvider, own_configuration: Path) -> None:
    one, _, _ = own_configuration.read_text().partition("  pve:")
    own_configuration.write_text(one)
    assert vmpower("shutdown", "lab/web").code == 0
    assert shut_down(lab) == ["web"]


def test_a_prefix_asks_nobody_else(vmpower: Shell, lab: FakeProvider) -> None:
    assert vmpower("shutdown", "lab/web").code == 0
    assert shut_down(lab) == ["web"]


def test_a_name_that_none_has_is_a_usage_error_that_names_them(vmpower: Shell) -> None:
    done = vmpower("get", "wbe")
    assert done.code == 2
    assert "No VM has the id or name 'wbe' at lab, pve." in done.err


def test_a_slash_after_no_providers_name_is_part_of_the_vms(vmpower: Shell, lab: FakeProvider) -> None:
    known = {name: vm("dc/web") for name in ("dc/web", "id-dc/web")}
    lab.answers["GetVM"] = lambda request: known.get(request.vm) or not_found("vm", request.vm)
    assert json.loads(vmpower("get", "dc/web", "-o", "json").out)["name"] == "dc/web"


def test_an_operation_is_found_wherever_it_is(vmpower: Shell, pve: FakeProvider) -> None:
    cancelled = running("mail", state=pb.OPERATION_STATE_CANCELLED)
    pve.answers |= {"GetOperation": running("mail"), "CancelOperation": cancelled}
    assert vmpower("cancel", "op-mail").code == 0
    assert pve.request("CancelOperation").id == "op-mail"


def test_watch_tells_the_changes_of_all_each_with_its_provider(
    vmpower: Shell, lab: FakeProvider, pve: FakeProvider
) -> None:
    stop = not_found("vm", "stop")
    lab.streams = [[pb.WatchVMsResponse(changed=vm("web")), stop]]
    pve.streams = [[pb.WatchVMsResponse(removed="id-mail"), stop]]
    assert sorted(line.split("\t")[:2] for line in vmpower("watch").out.splitlines()) == [
        ["lab", "web"],
        ["pve", "id-mail"],
    ]
