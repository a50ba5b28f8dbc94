"""Bad input: each with its code, its field and its sentence, and the VM untouched."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from protos.power.v1 import power_pb2 as pb
from tests.conformance.client import Power, duration, refusal

EXEC = pb.ExecHook(command=["true"])
UNKNOWN: Any = 99
"""A value of no enum; the generated types rightly refuse it."""

BAD_FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "a timeout of zero": ("timeout", {"timeout": Duration()}),
    "a negative timeout": ("timeout", {"timeout": duration(-1)}),
    "a timeout of 25 hours": ("timeout", {"timeout": duration(25 * 3600)}),
    "an unknown escalation": ("escalation", {"escalation": UNKNOWN}),
    "an unknown signal": ("signal_policy.order[0]", {"signal_policy": pb.SignalPolicy(order=[UNKNOWN])}),
    "a negative resend interval": (
        "signal_policy.resend_interval",
        {"signal_policy": pb.SignalPolicy(resend_interval=duration(-1))},
    ),
    "a hook without handler": ("pre_stop[0]", {"pre_stop": [pb.Hook(name="flush")]}),
    "an empty hook command": ("pre_stop[0].exec.command", {"pre_stop": [pb.Hook(exec=pb.ExecHook())]}),
    "an empty program": (
        "pre_stop[1].exec.command",
        {"pre_stop": [pb.Hook(exec=EXEC), pb.Hook(exec=pb.ExecHook(command=[""]))]},
    ),
    "two hooks of one name": (
        "pre_stop[1].name",
        {"pre_stop": [pb.Hook(name="flush", exec=EXEC), pb.Hook(name="flush", exec=EXEC)]},
    ),
    "a hook timeout of zero": (
        "pre_stop[0].timeout",
        {"pre_stop": [pb.Hook(exec=EXEC, timeout=Duration())]},
    ),
    "a hook timeout of 25 hours": (
        "pre_stop[0].timeout",
        {"pre_stop": [pb.Hook(exec=EXEC, timeout=duration(25 * 3600))]},
    ),
    "an unknown failure policy": (
        "pre_stop[0].failure_policy",
        {"pre_stop": [pb.Hook(exec=EXEC, failure_policy=UNKNOWN)]},
    ),
    "a hook URL that is none": (
        "pre_stop[0].http_get.url",
        {"pre_stop": [pb.Hook(http_get=pb.HttpGetHook(url="no url"))]},
    ),
    "an impossible force_after": ("force_after", {"force_after": Timestamp(nanos=-1)}),
}


@pytest.mark.parametrize(("field", "values"), BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
async def test_a_bad_field_is_named_and_nothing_happens(
    power: Power, running: pb.VM, field: str, values: dict[str, Any]
) -> None:
    async with power.untouched(running):
        refused = await refusal(power.stub.Shutdown(pb.ShutdownRequest(vm=running.id, **values)))
    assert (refused.code.name, refused.fields) == ("INVALID_ARGUMENT", [field])
    assert (refused.info.domain, bool(refused.info.reason)) == ("vmpower", True)
    assert field in refused.message


async def test_every_bad_field_is_named_at_once(power: Power, running: pb.VM) -> None:
    request = pb.ShutdownRequest(vm=running.id, timeout=duration(-1), escalation=UNKNOWN)
    refused = await refusal(power.stub.Shutdown(request))
    assert sorted(refused.fields) == ["escalation", "timeout"]


WITHOUT_VM: dict[str, Callable[[Power], Any]] = {
    "GetVM": lambda power: power.stub.GetVM(pb.GetVMRequest()),
    "PowerOn": lambda power: power.stub.PowerOn(pb.PowerOnRequest()),
    "PowerOff": lambda power: power.stub.PowerOff(pb.PowerOffRequest()),
    "Shutdown": lambda power: power.stub.Shutdown(pb.ShutdownRequest()),
    "Reboot": lambda power: power.stub.Reboot(pb.RebootRequest()),
}


@pytest.mark.parametrize("call", WITHOUT_VM.values(), ids=WITHOUT_VM.keys())
async def test_a_request_for_no_vm_is_invalid(power: Power, call: Callable[[Power], Any]) -> None:
    refused = await refusal(call(power))
    assert (refused.code.name, refused.fields) == ("INVALID_ARGUMENT", ["vm"])


@pytest.mark.parametrize("vm", ["no-such-vm", "kein-solcher-Gast-ü-🐧"])
async def test_an_unknown_vm_is_not_found(power: Power, vm: str) -> None:
    refused = await refusal(power.stub.Shutdown(pb.ShutdownRequest(vm=vm)))
    assert (refused.code.name, refused.info.reason) == ("NOT_FOUND", "VM_NOT_FOUND")
    assert refused.info.domain == "vmpower"
    assert vm in refused.message


async def test_a_shutdown_of_an_ambiguous_name_touches_none_of_them(power: Power, named: Callable[[str], str]) -> None:
    name = named("duplicate")
    before = await power.operations()
    refused = await refusal(power.stub.Shutdown(pb.ShutdownRequest(vm=name)))
    ids = [vm.id for vm in await power.vms() if vm.name == name]
    assert (refused.code.name, refused.info.reason) == ("FAILED_PRECONDITION", "AMBIGUOUS_NAME")
    assert sorted(refused.info.metadata["ids"].split(",")) == sorted(ids)
    assert await power.operations() == before


async def test_a_template_takes_no_operations(power: Power, named: Callable[[str], str]) -> None:
    vm = await power.vm(named("template"))
    async with power.untouched(vm):
        refused = await refusal(power.shutdown(vm))
    assert (refused.code.name, refused.info.reason) == ("FAILED_PRECONDITION", "VM_REFUSED")


UNKNOWN_OPERATION: dict[str, Callable[[Power, pb.Operation], Any]] = {
    "GetOperation": lambda power, operation: power.get(operation),
    "WatchOperation": lambda power, operation: power.seen(operation),
    "ExtendOperation": lambda power, operation: power.extend(operation, extension=duration(1)),
    "ForceOperation": lambda power, operation: power.force(operation),
    "CancelOperation": lambda power, operation: power.cancel(operation),
}


@pytest.mark.parametrize("call", UNKNOWN_OPERATION.values(), ids=UNKNOWN_OPERATION.keys())
async def test_an_unknown_operation_is_not_found(power: Power, call: Callable[[Power, pb.Operation], Any]) -> None:
    refused = await refusal(call(power, pb.Operation(id="no-such-operation")))
    assert (refused.code.name, refused.info.reason) == ("NOT_FOUND", "OPERATION_NOT_FOUND")


BAD_EXTENSIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "of zero": ("extension", {"extension": Duration()}),
    "of 25 hours": ("extension", {"extension": duration(25 * 3600)}),
    "into the past": ("force_after", {"force_after": Timestamp(seconds=1)}),
    "by a timeout of zero": ("timeout", {"timeout": Duration()}),
    "of unknown length": ("until", {}),
}


@pytest.mark.parametrize(("field", "until"), BAD_EXTENSIONS.values(), ids=BAD_EXTENSIONS.keys())
async def test_a_bad_extension_changes_nothing(power: Power, deaf: pb.VM, field: str, until: dict[str, Any]) -> None:
    operation = await power.shutdown(deaf)
    waiting = await power.reach(operation, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    refused = await refusal(power.extend(operation, **until))
    assert (refused.code.name, refused.fields) == ("INVALID_ARGUMENT", [field])
    assert (await power.get(operation)).force_after == waiting.force_after


@pytest.mark.parametrize("method", ["ListVMs", "ListOperations"])
async def test_a_page_token_that_nobody_gave_out_is_invalid(power: Power, method: str) -> None:
    request = getattr(pb, method + "Request")(page_token="made up")
    refused = await refusal(getattr(power.stub, method)(request))
    assert (refused.code.name, refused.fields) == ("INVALID_ARGUMENT", ["page_token"])


@pytest.mark.parametrize("method", ["ListVMs", "ListOperations"])
async def test_a_page_of_less_than_nothing_is_invalid(power: Power, method: str) -> None:
    request = getattr(pb, method + "Request")(page_size=-1)
    refused = await refusal(getattr(power.stub, method)(request))
    assert (refused.code.name, refused.fields) == ("INVALID_ARGUMENT", ["page_size"])


async def test_an_oversize_request_is_refused(power: Power, running: pb.VM) -> None:
    hook = pb.Hook(exec=pb.ExecHook(command=["echo", "x" * (5 << 20)]))
    async with power.untouched(running):
        refused = await refusal(power.shutdown(running, pre_stop=[hook]))
    assert refused.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)


async def test_a_name_that_is_not_utf8_is_invalid(power: Power, running: pb.VM) -> None:
    async with power.untouched(running):
        refused = await refusal(power.raw("Shutdown", b"\x0a\x03\xff\xfe\xfd"))
    assert (refused.code.name, refused.fields) == ("INVALID_ARGUMENT", ["vm"])


async def test_bytes_that_are_no_message_are_invalid(power: Power, running: pb.VM) -> None:
    async with power.untouched(running):
        refused = await refusal(power.raw("Shutdown", b"\xff\xff\xff"))
    assert refused.code.name == "INVALID_ARGUMENT"
