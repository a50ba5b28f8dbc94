"""The interceptor as bytes pass it; `test_server.py` has a real server around it."""

import asyncio
import tracemalloc
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from structlog.testing import capture_logs

from protos.power.v1 import power_pb2 as pb
from providers.core import errors
from providers.core.errors import InvalidRequest, OperationActive, Violation, VmpowerError
from providers.core.lanes import CALLER
from providers.core.settings import Settings
from providers.server.interceptor import MOST, MOST_OF_ONE, PAGES_AT_ONCE, Interceptor, TooManyCalls, status
from tests.unit.providers.server.pki import Authority

AUTHORITY = Authority()
SERVICE = "/power.v1.PowerService/"


class Aborted(Exception):
    """How grpc.aio leaves a handler that aborts."""


class Call:
    """The side of a ServicerContext that the interceptor sees."""

    def __init__(self, **auth: list[bytes]) -> None:
        self._auth = auth
        self.ended: Any = None

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._auth

    def peer(self) -> str:
        return "unix:"

    async def abort_with_status(self, ended: Any) -> None:
        self.ended = ended
        raise Aborted


class From(Call):
    """One from a peer without a certificate."""

    def __init__(self, peer: str) -> None:
        super().__init__()
        self._peer = peer

    def peer(self) -> str:
        return self._peer


class Details:
    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()


async def reach(method: str, data: bytes, call: Call | None = None, **settings: Any) -> Message | Status:
    """What a method is handed of these bytes, or the status that the caller gets instead."""
    handed: list[Message] = []

    async def handler(request: Message, _: Any) -> pb.Operation:
        handed.append(request)
        return pb.Operation()

    async def continuation(_: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(handler)

    wrapped = await interceptor(**settings).intercept_service(continuation, Details(SERVICE + method))  # type: ignore[arg-type]
    call = call or Call()
    try:
        await wrapped.unary_unary(wrapped.request_deserializer(data), call)
    except Aborted:
        return Status.FromString(dict(call.ended.trailing_metadata)["grpc-status-details-bin"])
    return handed[0]


def violations(ended: Message | Status) -> list[tuple[str, str]]:
    assert isinstance(ended, Status)
    bad = BadRequest()
    assert any(detail.Unpack(bad) for detail in ended.details)
    return [(one.field, one.description) for one in bad.field_violations]


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field as protobuf writes it."""
    assert len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value


async def test_a_good_request_passes_as_it_is() -> None:
    request = pb.ShutdownRequest(vm="wéb")
    assert await reach("Shutdown", request.SerializeToString()) == request


async def test_a_name_that_is_not_utf_8_is_told_by_its_field() -> None:
    assert violations(await reach("Shutdown", field(1, b"\xff\xfe"))) == [("vm", "is not valid UTF-8")]


async def test_a_nested_text_that_is_not_utf_8_is_told_by_its_path() -> None:
    hook = field(1, b"drain") + field(2, field(1, b"sync") + field(1, b"\xff"))
    data = field(1, b"web") + field(4, hook)
    assert violations(await reach("Shutdown", data)) == [("pre_stop.exec.command", "is not valid UTF-8")]


async def test_bytes_that_are_no_message_are_told_as_that() -> None:
    assert violations(await reach("Shutdown", b"\x0a\x7fshort")) == [("request", "is not protobuf")]


async def test_a_request_that_is_too_long_is_told_by_its_largest_field() -> None:
    request = pb.ShutdownRequest(vm="web", request_id="x" * 2000)
    ended = await reach("Shutdown", request.SerializeToString(), max_request_bytes=1000)
    assert violations(ended) == [
        ("request_id", f"the request has {request.ByteSize()} bytes, 1000 are allowed"),
    ]


def interceptor(**settings: Any) -> Interceptor:
    return Interceptor(Settings(listen="unix:///nowhere", state_dir=Path("/nowhere"), **settings))


async def test_a_method_that_does_not_exist_is_left_to_grpc() -> None:
    async def continuation(_: Any) -> Any:
        return None

    details: Any = Details(SERVICE + "Explode")
    assert await interceptor().intercept_service(continuation, details) is None


async def test_of_methods_that_clients_make_up_nothing_is_kept() -> None:
    async def continuation(_: Any) -> Any:
        return None

    asked = interceptor()
    tracemalloc.start()
    for number in range(20):
        details: Any = Details(f"/{number}/" + "x" * (1 << 20))
        await asked.intercept_service(continuation, details)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 5 << 20


def client(name: str) -> Call:
    """A call by mutual TLS whose certificate bears this name."""
    return Call(transport_security_type=[b"ssl"], x509_pem_cert=[AUTHORITY.issue(name).cert])


READS = ("GetVM", "ListVMs", "GetProviderInfo", "ForecastShutdown", "GetOperation", "ListOperations")
WRITES = (
    *("PowerOn", "PowerOff", "Shutdown", "Reboot"),
    *("ExtendOperation", "ForceOperation", "CancelOperation"),
)


@pytest.mark.parametrize("method", READS)
async def test_a_viewer_reads(method: str) -> None:
    assert not isinstance(await reach(method, b"", client("eve"), operators="alice"), Status)


@pytest.mark.parametrize("method", WRITES)
async def test_a_viewer_does_not_operate(method: str) -> None:
    ended = await reach(method, b"", client("eve"), operators="alice")
    assert isinstance(ended, Status)
    assert ended.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
    assert "adds its name to --operators" in ended.message


@pytest.mark.parametrize("method", WRITES)
async def test_an_operator_operates(method: str) -> None:
    assert not isinstance(await reach(method, b"", client("alice"), operators="alice,bob"), Status)


async def test_a_certificate_without_names_does_not_operate() -> None:
    call = Call(transport_security_type=[b"ssl"], x509_pem_cert=[AUTHORITY.issue().cert])
    assert isinstance(await reach("PowerOff", b"", call, operators=""), Status)


async def test_a_viewer_is_refused_before_its_request_is_judged() -> None:
    ended = await reach("PowerOff", field(1, b"\xff"), client("eve"))
    assert isinstance(ended, Status)
    assert ended.code == grpc.StatusCode.PERMISSION_DENIED.value[0]


class Slow:
    """A provider whose handlers go on until they are let go."""

    def __init__(self) -> None:
        self.interceptor = interceptor(operators=("alice", "bob"))
        self.go_on = asyncio.Event()
        self.running = 0
        self.most = 0

    async def _unary(self, _request: Message, _: Any) -> pb.Operation:
        self.running += 1
        self.most = max(self.most, self.running)
        await self.go_on.wait()
        self.running -= 1
        return pb.Operation()

    async def _stream(self, _request: Message, _: Any) -> AsyncIterator[pb.Operation]:
        yield await self._unary(_request, _)

    async def call(self, method: str, name: str = "") -> Status | None:
        """The refusal, None if it was served. With a name the client has a certificate."""
        streams = method.startswith("Watch")

        async def continuation(_: Any) -> Any:
            if streams:
                return grpc.unary_stream_rpc_method_handler(self._stream)
            return grpc.unary_unary_rpc_method_handler(self._unary)

        details: Any = Details(SERVICE + method)
        wrapped = await self.interceptor.intercept_service(continuation, details)
        call = client(name) if name else Call()
        request = wrapped.request_deserializer(b"")
        try:
            if streams:
                [_ async for _ in wrapped.unary_stream(request, call)]
            else:
                await wrapped.unary_unary(request, call)
        except Aborted:
            return Status.FromString(dict(call.ended.trailing_metadata)["grpc-status-details-bin"])
        return None

    async def begin(self, method: str, count: int = 1, name: str = "") -> list[asyncio.Task[Status | None]]:
        """Calls that are under way when this returns."""
        begun = [asyncio.create_task(self.call(method, name)) for _ in range(count)]
        for _ in range(5):
            await asyncio.sleep(0)
        return begun


@pytest.fixture
async def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    for kind in MOST:
        monkeypatch.setitem(MOST, kind, 3)
    return Slow()


@pytest.mark.parametrize("method", ["PowerOff", "GetOperation", "WatchOperation"])
async def test_a_call_too_many_is_refused_with_its_code_its_reason_and_when_to_come_again(
    slow: Slow, method: str
) -> None:
    await slow.begin(method, 3)
    refused, retry = await slow.call(method), RetryInfo()
    assert refused
    assert (refused.code, info(refused).reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "TOO_MANY_CALLS")
    assert refused.details[1].Unpack(retry)
    assert retry.retry_delay.ToSeconds() == 1
    assert "send this again in 1 s" in refused.message


@pytest.mark.parametrize("method", ["PowerOff", "GetOperation", "WatchOperation"])
async def test_a_call_is_served_once_others_have_ended(slow: Slow, method: str) -> None:
    under_way = await slow.begin(method, 3)
    slow.go_on.set()
    await asyncio.gather(*under_way)
    assert await slow.call(method) is None


@pytest.mark.parametrize("rush", ["GetOperation", "ListOperations", "WatchOperation"])
async def test_a_rush_of_reads_does_not_refuse_work(slow: Slow, rush: str) -> None:
    await slow.begin(rush, 4)
    (work,) = await slow.begin("PowerOff")
    slow.go_on.set()
    assert await work is None


@pytest.mark.parametrize("urgent", ["PowerOff", "ForceOperation", "ExtendOperation", "CancelOperation"])
async def test_a_rush_of_shutdowns_refuses_nothing_urgent(slow: Slow, urgent: str) -> None:
    await slow.begin("Shutdown", 4)
    (work,) = await slow.begin(urgent)
    slow.go_on.set()
    assert await work is None


async def caller_of(call: Call) -> str:
    """Whose request a handler serves, as the lanes see it."""
    seen = list[str]()

    async def handler(_request: Message, _: Any) -> pb.VM:
        seen.append(CALLER.get())
        return pb.VM()

    async def continuation(_: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(handler)

    details: Any = Details(SERVICE + "GetVM")
    wrapped = await interceptor().intercept_service(continuation, details)
    await asyncio.create_task(wrapped.unary_unary(wrapped.request_deserializer(b""), call))
    return seen[0]


async def test_a_caller_is_its_certificate() -> None:
    assert "cn:op" in (await caller_of(client("op"))).split()


async def test_without_a_certificate_a_caller_is_its_host() -> None:
    assert await caller_of(From("ipv4:127.0.0.1:4711")) == "ipv4:127.0.0.1"


async def test_a_call_that_was_hung_up_is_not_under_way_any_more(slow: Slow) -> None:
    calls = await slow.begin("PowerOff", 3)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    await asyncio.sleep(0)
    slow.go_on.set()
    assert await slow.call("PowerOff") is None


async def test_long_answers_are_put_together_a_few_at_a_time(slow: Slow) -> None:
    under_way = await slow.begin("ListVMs", 3)
    assert slow.most == PAGES_AT_ONCE
    slow.go_on.set()
    assert await asyncio.gather(*under_way) == [None] * 3


def info(ended: Status) -> ErrorInfo:
    message = ErrorInfo()
    assert ended.details[0].Unpack(message)
    return message


def test_an_error_carries_its_code_reason_and_metadata() -> None:
    ended = status(OperationActive("busy", {"operation_id": "7"}))
    assert (ended.code, ended.message) == (10, "busy")
    assert info(ended) == ErrorInfo(domain="vmpower", reason="OPERATION_ACTIVE", metadata={"operation_id": "7"})


def test_an_error_that_passes_says_when_to_come_again() -> None:
    retry = RetryInfo()
    assert status(errors.HypervisorBusy("busy")).details[1].Unpack(retry)
    assert retry.retry_delay.ToTimedelta() == errors.HypervisorBusy.retry_delay


def test_bad_input_carries_its_fields() -> None:
    assert violations(status(InvalidRequest(Violation("vm", "must not be empty")))) == [("vm", "must not be empty")]


def headers(ended: Status) -> int:
    """The bytes that it takes as HTTP/2 headers: its sentence percent-encoded, all of it in Base64."""
    return len(quote(ended.message, safe=" ")) + len(b64encode(ended.SerializeToString()))


MANY = [Violation(f"pre_stop[{n}].exec.command", "must not be empty ✗") for n in range(1000)]
LONG: list[VmpowerError] = [
    InvalidRequest(*MANY),
    InvalidRequest(Violation("✗" * 5000, "✗" * 5000)),
    errors.AmbiguousName("✗" * 5000, {"ids": "✗" * 5000, "more": "✗" * 5000}),
]


@pytest.mark.parametrize("error", LONG, ids=["many fields", "a long field", "long metadata"])
def test_an_error_is_never_longer_than_grpc_carries(error: VmpowerError) -> None:
    ended = status(error)
    assert info(ended).reason == error.reason
    assert headers(ended) < 8 << 10


def test_of_many_bad_fields_the_first_are_told_and_how_many_more_there_are() -> None:
    told = violations(status(InvalidRequest(*MANY)))
    assert told[0] == (MANY[0].field, MANY[0].description)
    assert told[-1] == ("request", f"{1000 - (len(told) - 1)} more are not told")


def test_an_error_may_speak_of_any_text() -> None:
    ended = status(errors.VMRefused("w\udce9b: it is a template", {"vm": "w\udce9b"}))
    assert (ended.message, info(ended).metadata["vm"]) == ("w\\udce9b: it is a template", "w\\udce9b")


PLACES = {errors.__name__, TooManyCalls.__module__}


def _classes(root: type[VmpowerError]) -> list[type[VmpowerError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _classes(child))]


@pytest.mark.parametrize("kind", [kind for kind in _classes(VmpowerError) if kind.__module__ in PLACES])
def test_every_error_has_a_status(kind: type[VmpowerError]) -> None:
    error = kind(Violation("f", "d")) if kind is InvalidRequest else kind("sentence")
    assert (status(error).code, info(status(error)).reason) == (grpc.StatusCode[error.code.name].value[0], error.reason)


async def test_a_bug_is_logged_and_its_words_are_kept_from_the_caller() -> None:
    async def handler(_request: Message, _: Any) -> None:
        raise ZeroDivisionError("password=hunter2")

    async def continuation(_: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(handler)

    details: Any = Details(SERVICE + "GetVM")
    wrapped, call = await interceptor().intercept_service(continuation, details), Call()
    with capture_logs() as logs, pytest.raises(Aborted):
        await wrapped.unary_unary(wrapped.request_deserializer(b""), call)
    assert (call.ended.code, call.ended.details) == (
        grpc.StatusCode.INTERNAL,
        "vmpower failed; its log says how. Its operator reports it.",
    )
    assert (logs[0]["event"], logs[0]["method"]) == ("a bug in vmpower", "GetVM")


async def test_one_clients_streams_leave_room_for_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MOST_OF_ONE, "streams of all VMs", 1)

    async def handler(_: Message, __: Any) -> AsyncIterator[pb.WatchVMsResponse]:
        while True:
            yield pb.WatchVMsResponse()

    async def continuation(_: Any) -> Any:
        return grpc.unary_stream_rpc_method_handler(handler)

    wrapped = await interceptor().intercept_service(continuation, Details(SERVICE + "WatchVMs"))  # type: ignore[arg-type]
    alice, bob = client("alice"), client("bob")
    first = wrapped.unary_stream(pb.WatchVMsRequest(), alice)
    await anext(first)
    with pytest.raises(Aborted):
        await anext(wrapped.unary_stream(pb.WatchVMsRequest(), alice))
    assert await anext(wrapped.unary_stream(pb.WatchVMsRequest(), bob)) == pb.WatchVMsResponse()


@pytest.mark.parametrize("method", ["PowerOff", "GetOperation", "Shutdown"])
async def test_one_clients_calls_leave_room_for_those_of_others(
    slow: Slow, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in MOST_OF_ONE:
        monkeypatch.setitem(MOST_OF_ONE, kind, 2)
    await slow.begin(method, 2, "alice")
    refused, (work,) = await slow.call(method, "alice"), await slow.begin(method, 1, "bob")
    slow.go_on.set()
    assert refused
    assert info(refused).reason == "TOO_MANY_CALLS"
    assert await work is None
