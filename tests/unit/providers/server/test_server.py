"""A provider's process from outside: what it answers, refuses, prints, and how it ends."""

import asyncio
import json
import socket
import stat
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from protos.power.v1 import power_pb2 as pb
from protos.power.v1.power_pb2_grpc import PowerServiceStub
from tests.rigs.calls import Calls, calls
from tests.rigs.process import Program, Provider

SCRIPT = """
guests:
  web: {shutdown_time: 300ms}
  deaf: {agent: none, acpi: ignores}
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sim") / "script.yaml"
    path.write_text(SCRIPT)
    return path


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def health_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def provider(script: Path, metrics_port: int, health_port: int) -> Iterator[Provider]:
    arguments = (
        "--script",
        str(script),
        "--metrics-listen",
        f"127.0.0.1:{metrics_port}",
        "--health-listen",
        f"127.0.0.1:{health_port}",
        "--max-request-bytes",
        "2000",
    )
    with Provider("sim", *arguments) as provider:
        yield provider


@pytest.fixture
def client(provider: Provider) -> Iterator[Calls]:
    with calls(provider.address) as client:
        yield client


def test_health_is_told_for_the_server_and_the_service(provider: Provider) -> None:
    with grpc.insecure_channel(provider.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "power.v1.PowerService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("service", ["", "power.v1.PowerService", "liveness"])
def test_health_is_told_at_an_address_of_its_own(provider: Provider, health_port: int, service: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{health_port}") as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), wait_for_ready=True, timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_address_of_health_has_nothing_else(provider: Provider, health_port: int) -> None:
    with calls(f"127.0.0.1:{health_port}") as client, pytest.raises(grpc.RpcError) as refused:
        client.stub.ListVMs(pb.ListVMsRequest(), wait_for_ready=True, timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_contract_can_be_read_from_the_server(provider: Provider) -> None:
    with grpc.insecure_channel(provider.address) as channel:
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert "power.v1.PowerService" in services


def test_a_socket_is_for_its_owner_and_group(provider: Provider) -> None:
    path = Path(provider.address.removeprefix("unix://"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_metrics_are_served_on_their_own_port(provider: Provider, metrics_port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics") as answer:
        assert "vmpower_hypervisor_connected 1.0" in answer.read().decode()


def test_logs_are_one_json_object_a_line(provider: Provider) -> None:
    lines = [json.loads(line) for line in provider.output().splitlines()]
    serving = next(line for line in lines if line["event"] == "serving")
    assert (serving["level"], serving["type"], serving["address"]) == ("info", "sim", provider.address)


def test_an_error_has_its_code_and_details(client: Calls) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        client.stub.GetVM(pb.GetVMRequest(vm="nothing"))
    status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
    assert status.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert status.details[0].type_url == "type.googleapis.com/google.rpc.ErrorInfo"


def test_a_request_that_is_too_long_is_refused_by_its_field(client: Calls) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        client.stub.PowerOff(pb.PowerOffRequest(vm="web", request_id="x" * 3000))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "request_id: the request has" in (refused.value.details() or "")


def test_a_method_that_does_not_exist_is_unimplemented(provider: Provider) -> None:
    with grpc.insecure_channel(provider.address) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/power.v1.PowerService/Explode", lambda data: data)(b"")
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_request_with_many_mistakes_is_told_some_of_them(client: Calls) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        client.stub.Shutdown(pb.ShutdownRequest(vm="web", pre_stop=[pb.Hook() for _ in range(900)]))
    status, bad = rpc_status.from_call(refused.value), BadRequest()  # type: ignore[arg-type]
    assert status
    assert status.details[1].Unpack(bad)
    assert "pre_stop[0]" in bad.field_violations[0].field
    assert "more are not told" in bad.field_violations[-1].description


async def reasons(stub: Any, request: pb.PowerOffRequest | pb.ListVMsRequest, count: int) -> Counter[str]:
    """How so many calls at once over one connection end, by ErrorInfo's reason; by the code where there is none."""
    method = getattr(stub, type(request).__name__.removesuffix("Request"))

    async def call() -> str:
        try:
            await method(request)
        except grpc.aio.AioRpcError as error:
            ended, info = rpc_status.from_call(error), ErrorInfo()  # type: ignore[arg-type]
            return info.reason if ended and ended.details[0].Unpack(info) else error.code().name
        return "OK"

    return Counter(await asyncio.gather(*(call() for _ in range(count))))


async def test_4000_calls_at_once_on_one_connection_all_have_an_answer(provider: Provider) -> None:
    async with grpc.aio.insecure_channel(provider.address) as channel:
        found = await reasons(PowerServiceStub(channel), pb.PowerOffRequest(vm="nothing"), 4000)
    assert set(found) <= {"VM_NOT_FOUND", "TOO_MANY_CALLS"}
    assert found["VM_NOT_FOUND"] >= 2000


def test_sigterm_ends_it_well_and_leaves_operations_to_the_next_start(script: Path) -> None:
    with Provider("sim", "--script", str(script), "--drain-timeout", "0s") as provider:
        with calls(provider.address) as client:
            request = pb.ShutdownRequest(vm="deaf", timeout=Duration(seconds=3600), request_id="r")
            begun = client.stub.Shutdown(request)
            waiting = client.until_state(begun, pb.OPERATION_STATE_WAITING_FOR_GUEST)
        assert provider.stop() == 0
        assert "stopping; operations go on at the next start" in provider.output()
        provider.start()
        with calls(provider.address) as client:
            again = client.stub.GetOperation(pb.GetOperationRequest(id=begun.id), wait_for_ready=True)
            assert (again.state, again.force_after) == (waiting.state, waiting.force_after)
            assert client.stub.CancelOperation(pb.CancelOperationRequest(id=begun.id)).verdict.message


def test_sigterm_does_not_wait_for_a_watcher_longer_than_it_was_told(script: Path) -> None:
    with (
        Provider("sim", "--script", str(script), "--drain-timeout", "0s") as provider,
        calls(provider.address) as client,
    ):
        events = client.stub.WatchVMs(pb.WatchVMsRequest())
        next(events)
        assert provider.stop(timeout=4) == 0
        with pytest.raises(grpc.RpcError):
            list(events)


def refusal(*args: str) -> str:
    """What a provider prints that does not start."""
    with Program("providers.sim", *args) as program:
        assert program.wait() == 1
        return program.output()


def test_an_open_address_without_tls_is_refused_in_a_sentence(tmp_path: Path) -> None:
    said = refusal("--listen", "0.0.0.0:0", "--state-dir", str(tmp_path))
    assert said == (
        "cannot start: 0.0.0.0:0 needs mutual TLS: set --tls-cert, --tls-key and --tls-client-ca, "
        "or listen on a unix socket or loopback.\n"
    )


def test_an_address_in_use_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = refusal("--listen", address, "--state-dir", str(tmp_path)).splitlines()
    assert said[-1].startswith(f"cannot start: {address}: ")
    assert said[-1].endswith("free it or choose another --listen.")


def test_a_unix_socket_in_use_is_not_taken_over(provider: Provider, tmp_path: Path) -> None:
    with Program("providers.sim", "--listen", provider.address, "--state-dir", str(tmp_path)) as other:
        assert other.wait() == 1
    with calls(provider.address) as client:
        assert client.vm("web").name == "web"


def test_a_metrics_address_in_use_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        listen = ("--listen", f"unix://{tmp_path}/s", "--state-dir", str(tmp_path))
        said = refusal(*listen, "--metrics-listen", address).splitlines()
    assert said[-1].startswith(f"cannot start: {address}: ")


def test_a_health_address_in_use_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        listen = ("--listen", f"unix://{tmp_path}/s", "--state-dir", str(tmp_path))
        said = refusal(*listen, "--health-listen", address).splitlines()
    assert said[-1].startswith(f"cannot start: {address}: ")
    assert said[-1].endswith("free it or choose another --health-listen.")


def test_a_state_directory_in_use_is_refused_in_a_sentence(provider: Provider, tmp_path: Path) -> None:
    state = str(provider.folder / "state")
    world = ("--world", str(tmp_path / "world.db"))
    said = refusal("--listen", f"unix://{tmp_path}/s", "--state-dir", state, *world).splitlines()
    assert said[-1].startswith("cannot start: The journal ")
    assert said[-1].endswith("names another --state-dir.")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure(script: Path, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a provider with mutual TLS, where alice operates."""
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    files = (
        *("--tls-key", str(folder / "key.pem")),
        *("--tls-cert", str(folder / "cert.pem")),
        *("--tls-client-ca", str(folder / "ca.pem")),
    )
    listen = ("--listen", f"localhost:{port}", "--state-dir", str(folder / "state"))
    with Program("providers.sim", *listen, "--script", str(script), *files, "--operators", "alice"):
        yield port


def stub_of(name: str, port: int, authority: trustme.CA) -> PowerServiceStub:
    issued = authority.issue_cert(f"{name}.example", common_name=name)
    pair = (issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), *pair)
    return PowerServiceStub(grpc.secure_channel(f"localhost:{port}", credentials))


def test_a_viewer_reads_and_does_not_operate(secure: int, authority: trustme.CA) -> None:
    stub = stub_of("eve", secure, authority)
    assert stub.GetProviderInfo(pb.GetProviderInfoRequest(), wait_for_ready=True, timeout=30).type == "sim"
    with pytest.raises(grpc.RpcError) as refused:
        stub.PowerOff(pb.PowerOffRequest(vm="web"))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_an_operator_operates(secure: int, authority: trustme.CA) -> None:
    stub = stub_of("alice", secure, authority)
    stub.GetProviderInfo(pb.GetProviderInfoRequest(), wait_for_ready=True, timeout=30)
    begun = stub.PowerOff(pb.PowerOffRequest(vm="deaf"), timeout=30)
    (*_, ended) = stub.WatchOperation(pb.WatchOperationRequest(id=begun.id), timeout=30)
    assert ended.verdict.outcome == pb.OUTCOME_FORCED
