import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.rpc import code_pb2

from common import version
from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.conftest import Shell
from tests.unit.cli.fake import FakeProvider, refusal, serving
from tests.unit.cli.samples import vm

WELL = pb.GetProviderInfoResponse(type="libvirt", connected=True, guest_exec=True, role=pb.ROLE_OPERATOR)
PAUSED = pb.Forecast(problems=[pb.Problem(reason=pb.REASON_PAUSED, message="It is paused.", causes=[pb.CAUSE_PAUSED])])


def say(provider: FakeProvider, *vms: pb.VM) -> None:
    provider.answers["GetProviderInfo"] = WELL
    provider.answers["ForecastShutdown"] = pb.ForecastShutdownResponse(vms=vms)


def test_a_finding_says_what_why_who_and_by_which_command(vmpower: Shell, provider: FakeProvider) -> None:
    say(provider, vm("web"), vm("db", power_state=pb.POWER_STATE_PAUSED, forecast=PAUSED))
    ended = vmpower("doctor")
    assert ended.out.splitlines() == [
        "PROBLEM db: It is paused. [PAUSED]",
        "  why: Its processors are held: it hears nothing, and is powered off hard.",
        "  who: the VM's owner resumes it",
        "  do:  virsh -c '' resume id-db",
        "1 problem, 0 warnings: 2 VMs at 1 provider looked at.",
    ]
    assert ended.code == 7


def test_where_all_is_well_it_exits_with_0(vmpower: Shell, provider: FakeProvider) -> None:
    say(provider, vm("web"))
    ended = vmpower("doctor")
    assert (ended.code, ended.out) == (0, "0 problems, 0 warnings: 1 VM at 1 provider looked at.\n")


def test_a_warning_alone_exits_with_0(vmpower: Shell, provider: FakeProvider) -> None:
    say(provider, vm("web"))
    provider.answers["GetProviderInfo"] = pb.GetProviderInfoResponse(type="sim", connected=True)
    ended = vmpower("doctor")
    assert (ended.code, ended.out.split()[0]) == (0, "WARNING")


def test_json_is_a_list_of_findings(vmpower: Shell, provider: FakeProvider) -> None:
    say(provider, vm("db", forecast=PAUSED))
    (found,) = json.loads(vmpower("doctor", "-o", "json").out)
    assert {name: found[name] for name in ("provider", "vm", "check", "level")} == {
        "provider": "",
        "vm": "db",
        "check": "PAUSED",
        "level": "PROBLEM",
    }


def test_json_has_an_option_of_its_own(vmpower: Shell, provider: FakeProvider) -> None:
    say(provider, vm("db", forecast=PAUSED))
    assert vmpower("doctor", "--json").out == vmpower("doctor", "-o", "json").out


def test_only_the_vms_that_are_named_are_looked_at(vmpower: Shell, provider: FakeProvider) -> None:
    say(provider, vm("web"), vm("db", forecast=PAUSED))
    assert vmpower("doctor", "web").code == 0
    assert "2 VMs at 1 provider" in vmpower("doctor", "web", "id-db", "db").out


def test_an_unknown_vm_is_a_problem_and_the_others_are_looked_at(vmpower: Shell, provider: FakeProvider) -> None:
    say(provider, vm("web"), vm("db", forecast=PAUSED))
    found = json.loads(vmpower("doctor", "wbe", "db", "-o", "json").out)
    assert [each["check"] for each in found] == ["PAUSED", "VM_UNKNOWN"]


def test_a_name_that_two_vms_bear_is_a_problem(vmpower: Shell, provider: FakeProvider) -> None:
    say(provider, vm("web"), vm("web", id="other"))
    (found,) = json.loads(vmpower("doctor", "web", "-o", "json").out)
    assert (found["check"], found["what"]) == ("VM_UNCLEAR", "'web' means 2 VMs: write id-web or other.")


def test_a_hypervisor_that_is_away_is_told_and_its_vms_are_not_asked_for(
    vmpower: Shell, provider: FakeProvider
) -> None:
    provider.answers["GetProviderInfo"] = pb.GetProviderInfoResponse(
        type="vsphere", guest_exec=True, connection_error=pb.ConnectionError(message="vSphere cannot be reached.")
    )
    ended = vmpower("doctor")
    assert ended.out.startswith("PROBLEM vSphere cannot be reached. [HYPERVISOR_UNREACHABLE]")
    assert provider.requests("ForecastShutdown") == []


def test_a_refusal_of_the_provider_is_a_finding(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["GetProviderInfo"] = refusal(code_pb2.UNAUTHENTICATED, "Revoked.", "CERTIFICATE_REFUSED")
    (found,) = json.loads(vmpower("doctor", "-o", "json").out)
    assert found["check"] == "OWN_CERTIFICATE_REFUSED"


def test_a_way_to_start_a_provider_is_that_of_this_installation(
    vmpower: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = f"unix://{tmp_path}/away.sock"
    (checkout,) = json.loads(vmpower("doctor", "-p", away, "--json").out)
    monkeypatch.setattr(version, "CHECKOUT", tmp_path / "pyproject.toml")
    (installed,) = json.loads(vmpower("doctor", "-p", away, "--json").out)
    assert checkout["commands"] == [f"python -m providers.TYPE --listen {away}"]
    assert installed["commands"] == [f"vmpower-provider TYPE --listen {away}"]


def test_what_hypervisors_say_is_shown_on_one_line(vmpower: Shell, provider: FakeProvider) -> None:
    say(provider, vm("db\x1b[2J", forecast=PAUSED))
    assert r"db\x1b[2J: It is paused." in vmpower("doctor").out.splitlines()[0]


def test_every_provider_is_looked_at_and_one_that_is_away_is_a_finding(
    tmp_path: Path, address: str, provider: FakeProvider, own_configuration: Path
) -> None:
    other = FakeProvider()
    say(provider, vm("web", forecast=PAUSED))
    say(other, vm("web"), vm("db"))
    own_configuration.parent.mkdir(parents=True)
    with serving(other, f"unix://{tmp_path}/other.sock") as second:
        own_configuration.write_text(
            f"providers: {{lab: {{address: '{address}'}}, prod: {{address: '{second}'}},"
            f" away: {{address: 'unix://{tmp_path}/away.sock'}}}}"
        )
        ended = Shell("")("doctor")
        chosen = Shell("")("doctor", "prod/web", "db")
        unclear = Shell("")("doctor", "web")
    heads = [line for line in ended.out.splitlines() if not line.startswith(" ")]
    assert heads == [
        f"PROBLEM away: There is no socket {tmp_path}/away.sock. [SOCKET_MISSING]",
        "PROBLEM lab/web: It is paused. [PAUSED]",
        "2 problems, 0 warnings: 3 VMs at 3 providers looked at.",
    ]
    assert "2 VMs at 3 providers" in chosen.out
    assert "write lab/id-web or prod/id-web" in unclear.out


@pytest.fixture
def lab_and_away(tmp_path: Path, address: str, provider: FakeProvider, own_configuration: Path) -> Shell:
    """Two providers are configured: `lab` has a VM that is paused, `away` does not run."""
    say(provider, vm("web", forecast=PAUSED))
    provider.answers["GetProviderInfo"] = pb.GetProviderInfoResponse(type="sim", connected=True, guest_exec=True)
    own_configuration.parent.mkdir(parents=True)
    away = f"unix://{tmp_path}/away.sock"
    own_configuration.write_text(f"providers: {{lab: {{address: '{address}'}}, away: {{address: '{away}'}}}}")
    return Shell("")


@pytest.mark.parametrize("name", ["db", "away/db", "Web"])
def test_nothing_is_said_of_a_vm_that_a_provider_may_have_which_does_not_answer(lab_and_away: Shell, name: str) -> None:
    found = json.loads(lab_and_away("doctor", name, "--json").out)
    assert [each["check"] for each in found] == ["SOCKET_MISSING"]


def test_a_vm_that_is_looked_for_at_a_provider_that_answers_is_unknown_there(lab_and_away: Shell) -> None:
    found = json.loads(lab_and_away("doctor", "lab/db", "--json").out)
    assert [each["check"] for each in found] == ["SOCKET_MISSING", "VM_UNKNOWN"]


@pytest.mark.parametrize("chosen", [[], ["--provider", "lab"]])
def test_a_command_names_the_vm_with_its_provider_where_several_are_configured(
    lab_and_away: Shell, chosen: list[str]
) -> None:
    found = json.loads(lab_and_away("doctor", *chosen, "--json").out)
    assert [each["commands"] for each in found if each["vm"]] == [["vmpower on lab/web"]]


def test_a_command_names_a_provider_that_the_configuration_does_not(
    lab_and_away: Shell, tmp_path: Path, provider: FakeProvider
) -> None:
    with serving(provider, f"unix://{tmp_path}/other.sock") as other:
        found = json.loads(lab_and_away("doctor", "--provider", other, "web", "db", "--json").out)
        usual = json.loads(Shell(other)("doctor", "web", "--json").out)
    assert [each["commands"] for each in found] == [
        [f"vmpower --provider {other} on web"],
        [f"vmpower --provider {other} list"],
    ]
    assert [each["commands"] for each in usual] == [["vmpower on web"]]


def test_the_only_provider_may_be_written_before_a_vm(
    address: str, provider: FakeProvider, own_configuration: Path
) -> None:
    say(provider, vm("web"))
    own_configuration.parent.mkdir(parents=True)
    own_configuration.write_text(f"providers: {{lab: {{address: '{address}'}}}}")
    assert Shell("")("doctor", "lab/web").out.endswith("1 VM at 1 provider looked at.\n")


def test_the_providers_clock_is_compared_with_ours(vmpower: Shell, provider: FakeProvider) -> None:
    say(provider, vm("web"))

    def late(_: object) -> pb.GetProviderInfoResponse:
        told = pb.GetProviderInfoResponse()
        told.CopyFrom(WELL)
        told.time.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
        return told

    provider.answers["GetProviderInfo"] = late
    (found,) = json.loads(vmpower("doctor", "-o", "json").out)
    assert found["what"] == "The provider's clock is 1:00:00 ahead of this machine's."
