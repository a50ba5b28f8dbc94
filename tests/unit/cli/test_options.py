import pytest

from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.conftest import Shell
from tests.unit.cli.fake import FakeProvider
from tests.unit.cli.samples import ended


@pytest.fixture(autouse=True)
def willing(provider: FakeProvider) -> None:
    provider.answers["Shutdown"] = ended()


def sent(vmpower: Shell, provider: FakeProvider, *options: str) -> pb.ShutdownRequest:
    assert vmpower("shutdown", "web", *options).code == 0
    request: pb.ShutdownRequest = provider.request("Shutdown")
    return request


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1m30s", 90), ("24h", 86400), ("-5s", -5), ("0s", 0)])
def test_durations_are_written_as_go_writes_them(
    vmpower: Shell, provider: FakeProvider, text: str, seconds: int
) -> None:
    assert sent(vmpower, provider, "--timeout", text).timeout.seconds == seconds


@pytest.mark.parametrize("text", ["90", "soon", "", "99999999999999h"])
def test_what_is_no_duration_is_a_usage_error(vmpower: Shell, provider: FakeProvider, text: str) -> None:
    ended = vmpower("shutdown", "web", "--timeout", text)
    assert ended.code == 2
    assert "write 90s or" in ended.err
    assert provider.requests("Shutdown") == []


@pytest.mark.parametrize("text", ["never", "NEVER", "Never"])
def test_escalation_in_any_case(vmpower: Shell, provider: FakeProvider, text: str) -> None:
    assert sent(vmpower, provider, "--escalation", text).escalation == pb.ESCALATION_NEVER


def test_what_happens_instead_of_a_save_is_an_option(vmpower: Shell, provider: FakeProvider) -> None:
    request = sent(vmpower, provider, "--escalation", "save", "--save-fallback", "force")
    assert (request.escalation, request.save_fallback) == (pb.ESCALATION_SAVE, pb.ESCALATION_FORCE)


def test_an_unknown_fallback_names_its_option(vmpower: Shell) -> None:
    ended = vmpower("shutdown", "web", "--escalation", "save", "--save-fallback", "maybe")
    assert (ended.code, "--save-fallback: 'maybe'" in ended.err) == (2, True)


def test_an_unknown_escalation_lists_the_known_ones(vmpower: Shell) -> None:
    ended = vmpower("shutdown", "web", "--escalation", "maybe")
    assert (ended.code, ended.err) == (2, "vmpower: --escalation: 'maybe' is none of FORCE, NEVER, ASK, SAVE.\n")


def test_signals_by_their_brief_or_full_names(vmpower: Shell, provider: FakeProvider) -> None:
    order = sent(vmpower, provider, "--signal", "agent,ACPI, vmware-tools").signal_policy.order
    assert order == [pb.SIGNAL_GUEST_AGENT, pb.SIGNAL_ACPI, pb.SIGNAL_VMWARE_TOOLS]


def test_an_unknown_signal_is_a_usage_error(vmpower: Shell) -> None:
    assert vmpower("shutdown", "web", "--signal", "smoke").code == 2


def test_never_resending_is_sent_as_zero_and_not_left_out(vmpower: Shell, provider: FakeProvider) -> None:
    policy = sent(vmpower, provider, "--resend", "0s").signal_policy
    assert policy.HasField("resend_interval")
    assert policy.resend_interval.ToTimedelta().total_seconds() == 0


def test_force_after_is_a_moment(vmpower: Shell, provider: FakeProvider) -> None:
    stamp = sent(vmpower, provider, "--force-after", "2026-01-31T13:00:00+01:00").force_after
    assert stamp.ToJsonString() == "2026-01-31T12:00:00Z"


def test_a_moment_that_is_none_is_a_usage_error(vmpower: Shell) -> None:
    ended = vmpower("shutdown", "web", "--force-after", "tomorrow")
    assert ended.code == 2
    assert "RFC 3339" in ended.err


def test_what_is_not_given_is_left_to_the_provider(vmpower: Shell, provider: FakeProvider) -> None:
    request = sent(vmpower, provider)
    assert [field.name for field, _ in request.ListFields()] == ["vm", "request_id"]
