from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from controller.enums import DesiredPower, Escalation, FailurePolicy, Signal
from controller.models import Provider
from controller.status_models import VirtualMachineStatus
from tests.unit.controller.builders import machine, provider, record, seconds

STOP = {"exec": {"command": ["/bin/stop"]}}


def test_a_spec_that_says_little_leaves_the_rest_to_the_provider() -> None:
    resource = machine(None)
    assert (resource.vm_name, resource.metadata.namespace, resource.spec.power_state) == ("web", "default", None)
    lifecycle = resource.spec.lifecycle
    assert (lifecycle.graceful_shutdown_timeout, lifecycle.escalation, lifecycle.pre_stop) == (None, None, ())


def test_every_field_of_a_lifecycle_is_understood() -> None:
    lifecycle = machine(
        gracefulShutdownTimeout="2m",
        escalation="Ask",
        preStop=STOP | {"name": "drain", "timeout": "10s", "failurePolicy": "Abort"},
        signalPolicy={"order": ["INIT", "ACPI"], "resendInterval": "0s"},
    ).spec.lifecycle
    assert (lifecycle.graceful_shutdown_timeout, lifecycle.escalation) == (timedelta(minutes=2), Escalation.ASK)
    (hook,) = lifecycle.pre_stop
    assert hook.exec
    assert (hook.name, hook.exec.command, hook.timeout) == ("drain", ("/bin/stop",), timedelta(seconds=10))
    assert hook.failure_policy is FailurePolicy.ABORT
    assert lifecycle.signal_policy.order == (Signal.INIT, Signal.ACPI)
    assert lifecycle.signal_policy.resend_interval == timedelta(0)


def test_one_hook_need_not_be_a_list() -> None:
    assert machine(preStop=STOP).spec.lifecycle == machine(preStop={"hooks": [STOP]}).spec.lifecycle


def test_an_empty_hook_is_none() -> None:
    assert machine(preStop={}).spec.lifecycle.pre_stop == ()


def test_a_hook_with_several_handlers_is_one_for_each_in_a_fixed_order() -> None:
    written = {"snapshot": {"name": "before"}, "httpGet": {"port": 80}, "timeout": "5s"} | STOP
    hooks = machine(preStop=written).spec.lifecycle.pre_stop
    assert [bool(hook.exec) for hook in hooks] == [True, False, False]
    assert [bool(hook.http_get) for hook in hooks] == [False, True, False]
    assert [bool(hook.snapshot) for hook in hooks] == [False, False, True]
    assert {hook.timeout for hook in hooks} == {seconds(5)}


def test_an_argument_of_a_program_may_be_empty() -> None:
    (hook,) = machine(preStop={"exec": {"command": ["/bin/set", ""]}}).spec.lifecycle.pre_stop
    assert hook.exec
    assert hook.exec.command == ("/bin/set", "")


def test_fields_that_are_not_ours_are_kept() -> None:
    resource = machine("Off", spec={"classRef": {"name": "small"}, "powerState": "Off"})
    assert resource.spec.power_state is DesiredPower.OFF
    assert resource.model_dump(by_alias=True)["spec"]["classRef"] == {"name": "small"}


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ({"url": "http://10.0.0.5:8080/drain"}, "http://10.0.0.5:8080/drain"),
        ({"host": "10.0.0.5", "port": 8080, "path": "/drain"}, "http://10.0.0.5:8080/drain"),
        ({"scheme": "HTTPS", "host": "web.lan", "path": "drain"}, "https://web.lan/drain"),
        ({"host": "2001:db8::5", "port": 8080}, "http://[2001:db8::5]:8080/"),
        ({"port": 8080, "path": "/drain"}, "http://:8080/drain"),
    ],
)
def test_a_url_is_written_whole_or_as_kubernetes_does(written: dict[str, Any], url: str) -> None:
    (hook,) = machine(preStop={"httpGet": written}).spec.lifecycle.pre_stop
    assert hook.http_get
    assert hook.http_get.target == url


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"preStop": {"hooks": [{"exec": {"command": []}}]}}, "preStop.0.exec.command", "at least 1"),
    ({"preStop": {"hooks": [{"exec": {"command": [""]}}]}}, "preStop.0.exec", "the first item of command"),
    ({"preStop": {"hooks": [{"name": "nothing"}]}}, "preStop.0", "exactly one of"),
    ({"preStop": {"hooks": [STOP | {"snapshot": {}}]}}, "preStop.0", "exactly one of"),
    ({"preStop": {"hooks": [STOP | {"timeout": "0s"}]}}, "preStop.0.timeout", "more than 0s"),
    ({"preStop": {"hooks": [STOP | {"timeout": "25h"}]}}, "preStop.0.timeout", "at most 24h"),
    ({"preStop": {"hooks": [STOP | {"failurePolicy": "Maybe"}]}}, "preStop.0.failurePolicy", "'Continue' or 'Abort'"),
    ({"preStop": {"hooks": [STOP | {"name": "a"}] * 2}}, "preStop", "two hooks are named 'a'"),
    ({"preStop": {"hooks": [STOP | {"name": "hook-2"}, STOP]}}, "preStop", "two hooks are named 'hook-2'"),
    ({"preStop": {"name": "nothing"}}, "preStop.0", "exactly one of"),
    ({"preStop": STOP | {"snapshot": {}, "name": "both"}}, "preStop", "a name is for one of"),
    ({"preStop": {"hooks": [{"httpGet": {"path": "/drain"}}]}}, "preStop.0.httpGet", "either url, or port"),
    ({"postStart": "reboot"}, "postStart", "must be a map: one hook"),
    ({"preStop": [STOP]}, "preStop", "write several hooks as {hooks: [...]}"),
    ({"preStop": {"hooks": [STOP], "timeout": "5s"}}, "preStop", "either one hook, or hooks alone"),
    ({"guestCredentialsSecretRef": {"name": "Not A Name"}}, "guestCredentialsSecretRef.name", "match pattern"),
    ({"escalation": "Sometimes"}, "escalation", "'Force', 'Never', 'Ask' or 'Save'"),
    ({"escalation": "Save", "saveFallback": "Ask"}, "saveFallback", "'Force' or 'Never'"),
    ({"gracefulShutdownTimeout": 120}, "gracefulShutdownTimeout", "with a unit"),
    ({"signalPolicy": {"order": ["SHOUT"]}}, "signalPolicy.order.0", "GUEST_AGENT"),
]


@pytest.mark.parametrize(("lifecycle", "field", "why"), BAD, ids=[f"{row[1]}: {row[2]}" for row in BAD])
def test_a_mistake_is_named_by_its_field(lifecycle: dict[str, Any], field: str, why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        machine(**lifecycle)
    problem = caught.value.errors()[0]
    assert ".".join(map(str, problem["loc"])) == f"spec.lifecycle.{field}"
    assert why in problem["msg"]


def test_off_asks_nobody() -> None:
    with pytest.raises(ValidationError, match="cuts the power at once"):
        machine("Off", escalation="Ask")


@pytest.mark.parametrize("lifecycle", [{}, {"escalation": "Force"}])
def test_only_save_falls_back(lifecycle: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="saveFallback has no meaning unless escalation is Save"):
        machine("OffGraceful", saveFallback="Force", **lifecycle)


def test_a_vm_that_leaves_is_brought_down_whatever_its_spec_says() -> None:
    leaving = machine("On").metadata.model_copy(update={"leaving": True})
    assert machine("On").model_copy(update={"metadata": leaving}).wanted == "OffGraceful"


def test_an_unknown_power_state_is_refused() -> None:
    with pytest.raises(ValidationError, match="'On', 'Off' or 'OffGraceful'"):
        machine("Offf")


@pytest.mark.parametrize(
    "endpoint", ["unix:///run/p.sock", "unix:.run/p.sock", "127.0.0.1:9443", "localhost:9443", "[::1]:9443",
                 "dns:///localhost:9443", "ipv4:127.0.0.1:9443"],
)  # fmt: skip
def test_no_tls_is_needed_on_this_machine(endpoint: str) -> None:
    assert provider(endpoint=endpoint).spec.runtime.tls is None


@pytest.mark.parametrize(
    "endpoint", ["10.0.0.1:9443", "provider.lan:9443", "127.evil.example:9443", "localhost.evil:1"]
)
def test_any_other_address_needs_tls(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="tls is needed"):
        provider(endpoint=endpoint)


def test_an_endpoint_has_a_port() -> None:
    with pytest.raises(ValidationError, match="must be unix:///path, or host:port"):
        provider(endpoint="kvm1.example", tls={"secretRef": {"name": "mtls"}})


@pytest.mark.parametrize(
    "runtime", [None, {}, {"mode": "Remote", "image": "registry.example/provider:v1"}, {"tls": {"enabled": True}}]
)
def test_a_provider_need_not_say_where_it_is(runtime: Any) -> None:
    document = provider().model_dump(by_alias=True)
    document["spec"] = {"type": "libvirt"} | ({"runtime": runtime} if runtime is not None else {})
    assert Provider.model_validate(document).spec.runtime.endpoint is None


def test_tls_of_an_endpoint_has_all_three_files() -> None:
    document = provider().model_dump(by_alias=True)
    document["spec"]["runtime"] = {"endpoint": "kvm1.example:9443", "tls": {"caFile": "ca"}}
    with pytest.raises(ValidationError, match="needs caFile, certFile and keyFile"):
        Provider.model_validate(document)


def test_headers_of_a_hook_are_not_shown() -> None:
    hook = {"httpGet": {"url": "http://10.0.0.5/", "headers": {"Authorization": "Bearer hunter2"}}}
    assert "hunter2" not in repr(machine(preStop=hook))


def test_a_provider_of_a_kind_nobody_thought_of_is_welcome() -> None:
    document = provider().model_dump(by_alias=True)
    document["spec"]["type"] = "hyper-z"
    assert Provider.model_validate(document).spec.type == "hyper-z"


def test_a_status_survives_being_written_and_read() -> None:
    status = VirtualMachineStatus(operation=record(timeout=seconds(90)), last_power_off=None)
    assert VirtualMachineStatus.model_validate(status.model_dump(mode="json", by_alias=True)) == status
