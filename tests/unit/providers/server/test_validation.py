from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from protos.power.v1 import power_pb2 as pb
from providers.core.adapter import VM, Delegation, Escalation, PowerState, Signal
from providers.core.errors import InvalidRequest, VMNotFound, VMRefused
from providers.core.extension import Extension
from providers.core.model import ExecHook, HttpGetHook, Request, TcpHook
from providers.core.settings import Settings
from providers.server import validation
from providers.server.validation import Find

SETTINGS = Settings(listen="unix:///nowhere", state_dir=Path("/nowhere"))
HOUR = 3600


def find(name: str) -> VM:
    return VM(f"id-of-{name}", name, PowerState.ON)


def shutdown(**fields: Any) -> Request:
    return validation.shutdown(pb.ShutdownRequest(**{"vm": "web"} | fields), find, SETTINGS)


def exec_hook(**fields: Any) -> pb.Hook:
    return pb.Hook(exec=pb.ExecHook(command=["sync"]), **fields)


def http_hook(url: str, **fields: Any) -> pb.Hook:
    return pb.Hook(http_get=pb.HttpGetHook(url=url, **fields))


def in_order(*numbers: Any) -> pb.SignalPolicy:
    return pb.SignalPolicy(order=numbers)


NO_TARGET = "must be an http or https URL with a host, or with a port alone"
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"vm": ""}, "vm", "must not be empty"),
    ({"timeout": Duration()}, "timeout", "must be more than 0"),
    ({"timeout": Duration(seconds=-1)}, "timeout", "must be more than 0"),
    ({"timeout": Duration(seconds=25 * HOUR)}, "timeout", "must be at most 24h"),
    ({"timeout": Duration(seconds=1 << 62)}, "timeout", "must be at most 24h"),
    ({"escalation": 7}, "escalation", "7 is not a value of Escalation"),
    ({"save_fallback": pb.ESCALATION_FORCE}, "save_fallback", "has no meaning unless escalation is SAVE"),
    (
        {"escalation": pb.ESCALATION_SAVE, "save_fallback": pb.ESCALATION_ASK},
        "save_fallback",
        "must be FORCE or NEVER",
    ),
    ({"request_id": "x" * 257}, "request_id", "must be at most 256 long"),
    ({"vm": "x" * 1_025}, "vm", "must be at most 1024 long"),
    ({"pre_stop": [exec_hook()] * 33}, "pre_stop", "must be at most 32 hooks"),
    ({"pre_stop": [exec_hook(name="x" * 64)]}, "pre_stop[0].name", "must be at most 63 long"),
    (
        {"pre_stop": [pb.Hook(exec=pb.ExecHook(command=["x"] * 257))]},
        "pre_stop[0].exec.command",
        "must be at most 256 parts",
    ),
    (
        {"pre_stop": [pb.Hook(exec=pb.ExecHook(command=["x" * 16_385]))]},
        "pre_stop[0].exec.command",
        "must be at most 16384 characters in all",
    ),
    ({"pre_stop": [http_hook("http://h/" + "x" * 2_048)]}, "pre_stop[0].http_get.url", "must be at most 2048 long"),
    (
        {"pre_stop": [http_hook("http://h/", headers={str(n): "" for n in range(33)})]},
        "pre_stop[0].http_get.headers",
        "must be at most 32 headers",
    ),
    (
        {"pre_stop": [http_hook("http://h/", headers={"a": "x" * 8_192})]},
        "pre_stop[0].http_get.headers",
        "must be at most 8192 characters in all",
    ),
    (
        {"guest_credentials": pb.GuestCredentials(password="x" * 1_025)},
        "guest_credentials.password",
        "must be at most 1024 long",
    ),
    ({"signal_policy": in_order(*[3] * 17)}, "signal_policy.order", "must be at most 16 values"),
    ({"force_after": Timestamp(seconds=1 << 40)}, "force_after", "is not a time"),
    (
        {"force_after": Timestamp(seconds=int(datetime.now(UTC).timestamp()) + 25 * HOUR)},
        "force_after",
        "must be at most 24h ahead",
    ),
    ({"signal_policy": in_order(99)}, "signal_policy.order[0]", "99 is not a value of Signal"),
    ({"signal_policy": in_order(0)}, "signal_policy.order", "must not be unspecified"),
    ({"signal_policy": in_order(3, 3)}, "signal_policy.order", "names a value twice"),
    (
        {"signal_policy": pb.SignalPolicy(resend_interval=Duration(seconds=-1))},
        "signal_policy.resend_interval",
        "must not be negative",
    ),
    ({"pre_stop": [pb.Hook()]}, "pre_stop[0]", "name one of exec, http_get or snapshot"),
    ({"pre_stop": [pb.Hook(exec=pb.ExecHook())]}, "pre_stop[0].exec.command", "must not be empty"),
    ({"pre_stop": [pb.Hook(exec=pb.ExecHook(command=[""]))]}, "pre_stop[0].exec.command", "must not be empty"),
    (
        {"pre_stop": [exec_hook(name="a"), exec_hook(name="a")]},
        "pre_stop[1].name",
        "two hooks are named 'a'",
    ),
    (
        {"pre_stop": [exec_hook(name="hook-2"), exec_hook()]},
        "pre_stop[1].name",
        "two hooks are named 'hook-2'",
    ),
    ({"pre_stop": [exec_hook(timeout=Duration())]}, "pre_stop[0].timeout", "must be more than 0"),
    ({"pre_stop": [exec_hook(failure_policy=9)]}, "pre_stop[0].failure_policy", "9 is not a value of FailurePolicy"),
    *[
        (
            {"pre_stop": [http_hook(url)]},
            "pre_stop[0].http_get.url",
            "must have no user or password, which belong into headers",
        )
        for url in ("http://user:secret@web/", "https://token@web/", "http://@web/")
    ]
    + [
        ({"pre_stop": [http_hook(url)]}, "pre_stop[0].http_get.url", NO_TARGET)
        for url in ("", "web", "ftp://web/", "file:///etc/passwd", "http://", "http://web:99999/", "http://[/")
    ],
    (
        {"pre_stop": [http_hook("http://web/", expect_status=42)]},
        "pre_stop[0].http_get.expect_status",
        "must be 0 or an HTTP status",
    ),
]


@pytest.mark.parametrize(("fields", "field", "sentence"), BAD, ids=[f"{field}: {why}" for _, field, why in BAD])
def test_bad_input_is_told_by_field_and_sentence(fields: dict[str, Any], field: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        shutdown(**fields)
    assert [(one.field, one.description) for one in refused.value.violations] == [(field, sentence)]


def test_all_bad_fields_are_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as refused:
        shutdown(vm="", timeout=Duration(), pre_stop=[pb.Hook()])
    assert {one.field for one in refused.value.violations} == {"vm", "timeout", "pre_stop[0]"}


def test_a_bad_request_is_told_before_a_vm_that_is_not_found() -> None:
    def nothing(name: str) -> VM:
        raise VMNotFound(name)

    with pytest.raises(InvalidRequest):
        validation.shutdown(pb.ShutdownRequest(vm="web", timeout=Duration()), nothing, SETTINGS)


def test_a_timeout_that_is_not_named_stays_so_and_what_else_is_left_out_is_the_providers_default() -> None:
    request = shutdown()
    assert request.timeout is None
    assert (request.escalation, request.resend_interval) == (Escalation.FORCE, timedelta(seconds=10))


def test_what_is_named_counts() -> None:
    request = shutdown(
        timeout=Duration(seconds=24 * HOUR),
        escalation=pb.ESCALATION_ASK,
        signal_policy=pb.SignalPolicy(order=[pb.SIGNAL_ACPI], resend_interval=Duration()),
    )
    assert request.timeout == timedelta(hours=24)
    assert (request.escalation, request.signal_order) == (Escalation.ASK, (Signal.ACPI,))
    assert request.resend_interval == timedelta(0)


def of(**fields: Any) -> Find:
    return lambda name: VM(f"id-of-{name}", name, PowerState.ON, **fields)


HA = of(delegation=Delegation(revocable=False, always_forced="HA forces."))


@pytest.mark.parametrize("escalation", [pb.ESCALATION_NEVER, pb.ESCALATION_ASK, pb.ESCALATION_SAVE])
def test_a_vm_that_is_always_forced_is_not_promised_otherwise(escalation: pb.Escalation.ValueType) -> None:
    message = pb.ShutdownRequest(vm="web", escalation=escalation)
    with pytest.raises(VMRefused, match=r"web: HA forces\. Escalation (NEVER|ASK|SAVE) cannot be kept; ask with FORCE"):
        validation.shutdown(message, HA, SETTINGS)


def test_a_default_that_cannot_be_kept_is_refused_too() -> None:
    cautious = SETTINGS.model_copy(update={"default_escalation": Escalation.NEVER})
    with pytest.raises(VMRefused, match="HA forces"):
        validation.reboot(pb.RebootRequest(vm="web"), HA, cautious)


def test_a_vm_that_is_always_forced_may_be_asked_with_force() -> None:
    request = validation.shutdown(pb.ShutdownRequest(vm="web"), HA, SETTINGS)
    assert request.escalation is Escalation.FORCE


def test_a_bad_request_is_told_before_what_the_vm_refuses() -> None:
    message = pb.ShutdownRequest(vm="web", timeout=Duration(), escalation=pb.ESCALATION_NEVER)
    with pytest.raises(InvalidRequest):
        validation.shutdown(message, HA, SETTINGS)


def test_a_hook_without_a_name_is_named_by_its_place() -> None:
    hooks = shutdown(pre_stop=[exec_hook(), exec_hook(name="drain"), exec_hook()]).hooks
    assert [hook.name for hook in hooks] == ["hook-1", "drain", "hook-3"]
    assert hooks[0].handler == ExecHook(command=("sync",))
    assert hooks[0].timeout == timedelta(seconds=30)


def test_a_force_after_in_the_past_is_taken() -> None:
    assert shutdown(force_after=Timestamp(seconds=1)).force_after == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


def test_the_vm_is_kept_by_id_and_name() -> None:
    request = validation.power_off(pb.PowerOffRequest(vm="web", request_id="r"), find, SETTINGS)
    assert (request.vm_id, request.vm_name, request.request_id) == ("id-of-web", "web", "r")


def test_post_start_hooks_are_told_by_their_own_field() -> None:
    with pytest.raises(InvalidRequest) as refused:
        validation.power_on(pb.PowerOnRequest(vm="web", post_start=[pb.Hook()]), find, SETTINGS)
    assert refused.value.violations[0].field == "post_start[0]"


def probed(probe: pb.Probe, *names: str) -> pb.PowerOnRequest:
    hooks = [pb.Hook(name=name, exec=pb.ExecHook(command=["warm"])) for name in names]
    return pb.PowerOnRequest(vm="web", post_start=hooks, ready=probe)


def test_a_probe_comes_after_the_hooks_and_is_repeated() -> None:
    first, last = validation.power_on(probed(pb.Probe(tcp=pb.TcpProbe(port=5432)), "warm"), find, SETTINGS).hooks
    assert (first.repeat, last.name, last.handler, last.repeat) == (False, "ready", TcpHook(port=5432), True)
    assert last.timeout == timedelta(minutes=5)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (probed(pb.Probe()), "ready"),
        (probed(pb.Probe(exec=pb.ExecHook())), "ready.exec.command"),
        (probed(pb.Probe(exec=pb.ExecHook(command=["x"] * 257))), "ready.exec.command"),
        (probed(pb.Probe(tcp=pb.TcpProbe())), "ready.tcp.port"),
        (probed(pb.Probe(tcp=pb.TcpProbe(port=65_536))), "ready.tcp.port"),
        (probed(pb.Probe(tcp=pb.TcpProbe(port=22), timeout=Duration(seconds=-1))), "ready.timeout"),
        (probed(pb.Probe(tcp=pb.TcpProbe(port=22)), "ready"), "post_start"),
    ],
)
def test_what_is_no_probe_is_refused_by_its_field(message: pb.PowerOnRequest, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        validation.power_on(message, find, SETTINGS)
    assert [each.field for each in refused.value.violations] == [field]


def test_a_reboot_is_checked_like_a_shutdown() -> None:
    with pytest.raises(InvalidRequest) as refused:
        validation.reboot(pb.RebootRequest(vm="web", timeout=Duration(), escalation=9), find, SETTINGS)  # type: ignore[arg-type]
    assert {one.field for one in refused.value.violations} == {"timeout", "escalation"}


def test_a_reboot_does_not_save() -> None:
    with pytest.raises(InvalidRequest, match="escalation: SAVE is no way to reboot"):
        validation.reboot(pb.RebootRequest(vm="web", escalation=pb.ESCALATION_SAVE), find, SETTINGS)


def test_what_cannot_be_saved_is_left_running_unless_the_request_says_otherwise() -> None:
    saves = pb.ShutdownRequest(vm="web", escalation=pb.ESCALATION_SAVE)
    forces = pb.ShutdownRequest(vm="web", escalation=pb.ESCALATION_SAVE, save_fallback=pb.ESCALATION_FORCE)
    fallbacks = [validation.shutdown(message, find, SETTINGS).save_fallback for message in (saves, forces)]
    assert fallbacks == [Escalation.NEVER, Escalation.FORCE]


def test_an_extension_names_exactly_one_thing() -> None:
    assert validation.extension(pb.ExtendOperationRequest(extension=Duration(seconds=5))) == Extension(
        by=timedelta(seconds=5)
    )
    with pytest.raises(InvalidRequest, match="name one of extension, force_after or timeout"):
        validation.extension(pb.ExtendOperationRequest())


def test_a_page_is_at_most_1000_long() -> None:
    assert [validation.page_size(size, 100) for size in (0, 7, 5000)] == [100, 7, 1000]
    with pytest.raises(InvalidRequest, match="page_size: must not be negative"):
        validation.page_size(-1, 100)


durations = st.builds(
    Duration, seconds=st.integers(-(1 << 63), (1 << 63) - 1), nanos=st.integers(-(1 << 31), (1 << 31) - 1)
)
timestamps = st.builds(
    Timestamp, seconds=st.integers(-(1 << 63), (1 << 63) - 1), nanos=st.integers(-(1 << 31), (1 << 31) - 1)
)
text = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(1 << 31), (1 << 31) - 1)
maybe = st.none
hooks = st.builds(
    pb.Hook,
    name=text,
    timeout=maybe() | durations,
    failure_policy=st.integers(-3, 5),
    **{"exec": maybe() | st.builds(pb.ExecHook, command=st.lists(text, max_size=3))},
) | st.builds(
    pb.Hook,
    http_get=st.builds(
        pb.HttpGetHook,
        url=text | text.map("http://{}".format),
        headers=st.dictionaries(text, text, max_size=2),
        expect_status=numbers,
    ),
)
requests = st.builds(
    pb.ShutdownRequest,
    vm=text,
    timeout=maybe() | durations,
    escalation=st.integers(-3, 6),
    save_fallback=st.integers(-3, 6),
    pre_stop=st.lists(hooks, max_size=3),
    signal_policy=st.builds(
        pb.SignalPolicy, order=st.lists(st.integers(-2, 5), max_size=3), resend_interval=maybe() | durations
    ),
    request_id=text,
    force_after=maybe() | timestamps,
)


@given(requests)
def test_any_request_is_either_taken_or_told_what_is_wrong(message: pb.ShutdownRequest) -> None:
    try:
        request = validation.shutdown(message, find, SETTINGS)
    except InvalidRequest as refused:
        assert refused.violations
    else:
        assert request.timeout is None or timedelta(0) < request.timeout <= timedelta(hours=24)


@given(
    st.builds(pb.ExtendOperationRequest, extension=durations)
    | st.builds(pb.ExtendOperationRequest, force_after=timestamps)
)
def test_any_extension_is_either_taken_or_told_what_is_wrong(message: pb.ExtendOperationRequest) -> None:
    try:
        validation.extension(message)
    except InvalidRequest as refused:
        assert refused.violations


@pytest.mark.parametrize("url", ["http://:8080/drain", "https://:1", "http://192.0.2.1/", "http://[2001:db8::1]:80/"])
def test_a_hooks_url_has_a_host_or_is_that_of_the_vm(url: str) -> None:
    (hook,) = shutdown(pre_stop=[http_hook(url)]).hooks
    assert isinstance(hook.handler, HttpGetHook)
    assert hook.handler.url == url


@pytest.mark.parametrize("url", ["http://:0/", "http:///drain", "http://:/drain", "http://user@:80/", "ftp://:80/"])
def test_a_url_without_host_and_port_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        shutdown(pre_stop=[http_hook(url)])
