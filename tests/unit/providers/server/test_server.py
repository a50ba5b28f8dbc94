"""A provider's process from outside: what it answers, refuses, prints, and how it ends."""

import asyncio
import grp
import json
import os
import pwd
import socket
import stat
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc.experimental import session_cache
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from client.channel import Tls
from client.errors import ProviderError
from client.power import PowerClient
from protos.power.v1 import power_pb2 as pb
from protos.power.v1.power_pb2_grpc import PowerServiceStub
from tests.rigs.calls import Calls, calls
from tests.rigs.ports import free_port
from tests.rigs.process import QUICK, ROOT, Program, Provider
from tests.unit.providers.server.pki import Authority, Issued

SCRIPT = """
guests:
  web: {shutdown_time: 300ms}
  deaf: {agent: none, acpi: ignores}
"""


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
        client.stub.Shutdown(pb.ShutdownRequest(vm="web", pre_stop=[pb.Hook() for _ in range(32)]))
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
        said = refusal("--listen", address, "--state-dir", str(tmp_path))
    assert said == f"cannot start: {address}: another process listens there; mend that or choose another --listen.\n"


@pytest.mark.parametrize("more", [(), (f"--operator-uids={os.getuid()}",)])
def test_a_socket_whose_directory_is_missing_is_refused_in_one_sentence(tmp_path: Path, more: tuple[str, ...]) -> None:
    address = f"unix://{tmp_path}/run/p.sock"
    assert refusal("--listen", address, "--state-dir", str(tmp_path), *more) == (
        f"cannot start: {address}: there is no directory {tmp_path}/run, its operator makes it; "
        "mend that or choose another --listen.\n"
    )


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
        said = refusal(*listen, "--metrics-listen", address)
    assert said == (
        f"cannot start: {address}: another process listens there; mend that or choose another --metrics-listen.\n"
    )


def test_a_health_address_in_use_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        listen = ("--listen", f"unix://{tmp_path}/s", "--state-dir", str(tmp_path))
        said = refusal(*listen, "--health-listen", address).splitlines()
    assert said[-1].startswith(f"cannot start: {address}: ")
    assert said[-1].endswith("mend that or choose another --health-listen.")


def test_a_state_directory_in_use_is_refused_in_a_sentence(provider: Provider, tmp_path: Path) -> None:
    state = str(provider.folder / "state")
    world = ("--world", str(tmp_path / "world.db"))
    said = refusal("--listen", f"unix://{tmp_path}/s", "--state-dir", state, *world).splitlines()
    assert said == [
        f"cannot start: The journal {state}/sim.journal.db cannot be opened: another process works with it; the "
        "operator frees it or names another --state-dir."
    ]


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


class Secured:
    """A provider with mutual TLS and an authority of its own, where op operates."""

    def __init__(self, folder: Path, script: Path, *args: str) -> None:
        self.authority, self.folder, self.port = Authority(), folder, free_port()
        self.crl = folder / "crl.pem"
        self.authority.revoke(self.crl)
        server = self.authority.issue("localhost", dns=["localhost"])
        given = {"tls-key": server.key, "tls-cert": server.cert, "tls-client-ca": self.authority.pem}
        flags = ["--listen", f"localhost:{self.port}", "--state-dir", str(folder / "state"), "--script", str(script)]
        for name, content in given.items():
            (folder / name).write_bytes(content)
            flags += [f"--{name}", str(folder / name)]
        flags += ["--tls-client-crl", str(self.crl), "--operators", "cn:op", *args]
        self.program = Program("providers.sim", *flags)

    def channel(self, issued: Issued, *options: tuple[str, Any]) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(self.authority.pem, issued.key, issued.cert)
        own = [("grpc.use_local_subchannel_pool", 1), *QUICK, *options]
        return grpc.secure_channel(f"localhost:{self.port}", credentials, own)


def power_off(channel: grpc.Channel) -> str:
    """How that ends: by ErrorInfo's reason; "OK"."""
    try:
        PowerServiceStub(channel).PowerOff(pb.PowerOffRequest(vm="web"), wait_for_ready=True, timeout=30)
    except grpc.RpcError as error:
        status, info = rpc_status.from_call(error), ErrorInfo()  # type: ignore[arg-type]
        return info.reason if status and status.details[0].Unpack(info) else str(error)
    return "OK"


@pytest.fixture
def secured(script: Path, tmp_path: Path) -> Iterator[Secured]:
    made = Secured(tmp_path, script)
    with made.program:
        yield made


def test_an_operator_whose_certificate_ends_loses_power_on_the_open_connection(secured: Secured) -> None:
    op = secured.authority.issue("op", ends=timedelta(seconds=8))
    with secured.channel(op) as channel:
        assert power_off(channel) == "OK"
        events = PowerServiceStub(channel).WatchVMs(pb.WatchVMsRequest())
        with pytest.raises(grpc.RpcError):
            list(events)  # until the certificate ends
        assert power_off(channel) == "CERTIFICATE_REFUSED"


def test_an_operator_who_is_revoked_loses_power_on_the_open_connection(secured: Secured) -> None:
    op = secured.authority.issue("op")
    with secured.channel(op) as channel:
        assert power_off(channel) == "OK"
        secured.authority.revoke(secured.crl, op)
        assert power_off(channel) == "CERTIFICATE_REFUSED"


def probe(channel: grpc.Channel, method: str) -> grpc.RpcError | None:
    """Why a probe of the listener was refused or ended, None if it was answered."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest()
    try:
        if method == "reflection":
            reflected = reflection_pb2.ServerReflectionRequest(list_services="")
            reflection: Any = reflection_pb2_grpc
            next(reflection.ServerReflectionStub(channel).ServerReflectionInfo(iter([reflected])))
        elif method == "Watch":
            next(stub.Watch(request, wait_for_ready=True, timeout=30))
        else:
            getattr(stub, method)(request, wait_for_ready=True, timeout=30)
    except grpc.RpcError as error:
        return error
    return None


@pytest.mark.parametrize("method", ["Check", "Watch", "reflection"])
def test_a_certificate_that_is_revoked_is_refused_by_health_and_reflection_too(secured: Secured, method: str) -> None:
    op = secured.authority.issue("op")
    with secured.channel(op) as channel:
        assert probe(channel, "Check") is None
        assert probe(channel, method) is None
        secured.authority.revoke(secured.crl, op)
        refused = probe(channel, method)
        assert refused
        assert refused.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_watch_of_health_ends_with_its_clients_certificate(secured: Secured) -> None:
    with secured.channel(secured.authority.issue("op", ends=timedelta(seconds=8))) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as ended:
            list(stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60))
    assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_health_of_a_service_that_is_not_there_is_not_found(provider: Provider) -> None:
    with grpc.insecure_channel(provider.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Check(health_pb2.HealthCheckRequest(service="nothing"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_session_that_is_resumed_does_not_outlive_its_certificate(secured: Secured) -> None:
    """TLS resumes a session without a look at the certificate."""
    op = secured.authority.issue("op", ends=timedelta(seconds=8))
    cache = ("grpc.ssl_session_cache", session_cache.ssl_session_cache_lru(1))  # type: ignore[no-untyped-call]
    with secured.channel(op, cache) as channel:
        assert power_off(channel) == "OK"
        with pytest.raises(grpc.RpcError):
            list(PowerServiceStub(channel).WatchVMs(pb.WatchVMsRequest()))  # until the certificate ends
    with secured.channel(op, cache) as channel:
        assert power_off(channel) == "CERTIFICATE_REFUSED"


def test_a_name_that_begins_like_an_operators_is_not_his(secured: Secured) -> None:
    with secured.channel(secured.authority.issue("op\0.evil")) as channel:
        assert power_off(channel) == "CERTIFICATE_REFUSED"


async def test_a_watch_goes_on_over_connections_that_are_renewed(script: Path, tmp_path: Path) -> None:
    made = Secured(tmp_path, script, "--max-connection-age", "1s")
    op = made.authority.issue("op")
    files = [tmp_path / name for name in ("ca", "op-cert", "op-key")]
    for file, content in zip(files, (made.authority.pem, op.cert, op.key), strict=True):
        file.write_bytes(content)
    broken, snapshots = list[ProviderError](), 0
    with made.program:
        made.program.wait_output('"serving"')
        async with (
            PowerClient(f"localhost:{made.port}", Tls(ca=files[0], cert=files[1], key=files[2])) as client,
            asyncio.timeout(60),
        ):
            async for message in client.watch_vms(broken.append):
                snapshots += isinstance(message, pb.WatchVMsResponse) and message.snapshot_complete
                if snapshots == 4:
                    break
    assert broken == []


def test_a_garbage_authority_is_refused_in_a_sentence(script: Path, tmp_path: Path) -> None:
    made = Secured(tmp_path, script)
    (tmp_path / "tls-client-ca").write_text("garbage")
    with made.program:
        assert made.program.wait() == 1
        (said,) = made.program.output().splitlines()
    assert said.endswith("tls-client-ca has no certificate in PEM, or a broken one; its operator mends that.")


def test_a_garbage_revocation_list_is_refused_in_a_sentence(script: Path, tmp_path: Path) -> None:
    made = Secured(tmp_path, script)
    made.crl.write_text("garbage")
    with made.program:
        assert made.program.wait() == 1
        said = made.program.output().splitlines()[-1]
    assert said.startswith("cannot start: ")
    assert said.endswith("has no revocation list in PEM; the provider's operator replaces it")


def test_a_socket_path_that_is_too_long_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with Program(
        "providers.sim", "--listen", f"unix://{tmp_path}/{'x' * 108}", "--state-dir", str(tmp_path)
    ) as program:
        assert program.wait() == 2
        (said,) = program.output().splitlines()
    assert "--listen (VMPOWER_LISTEN): the socket's path has " in said
    assert said.endswith("107 are possible: name a shorter one")


AS_NOBODY = """
import os, sys
import grpc
from protos.power.v1 import power_pb2 as pb
from protos.power.v1.power_pb2_grpc import PowerServiceStub
grpc.insecure_channel(sys.argv[1]).close()
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(65534)  # who may not read all that was imported
with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = PowerServiceStub(channel)
    print(stub.GetVM(pb.GetVMRequest(vm="web"), timeout=30).name)
    try:
        stub.PowerOff(pb.PowerOffRequest(vm="web"), timeout=30)
    except grpc.RpcError as error:
        print(error.code().name, error.details())
"""


def test_a_user_of_this_machine_with_a_named_number_operates(script: Path) -> None:
    with (
        Provider("sim", "--script", str(script), f"--operator-uids={os.geteuid()}") as provider,
        calls(provider.address) as client,
    ):
        assert client.stub.PowerOff(pb.PowerOffRequest(vm="web")).id


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_of_this_machine_reads_and_does_not_operate(script: Path) -> None:
    group = grp.getgrgid(pwd.getpwuid(65534).pw_gid)
    arguments = ("--script", str(script), "--operator-uids=0", f"--socket-group={group.gr_name}")
    with Provider("sim", *arguments) as provider:
        provider.folder.chmod(0o711)
        command = [sys.executable, "-c", AS_NOBODY, provider.address, str(group.gr_gid)]
        other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert other.stdout.splitlines()[0] == "web", other.stderr
    assert other.stdout.splitlines()[1].startswith("PERMISSION_DENIED PowerOff needs the operator role")
    assert "the user 65534" in other.stdout


def test_loopback_without_tls_is_warned_of(script: Path, tmp_path: Path) -> None:
    listen = ("--listen", f"127.0.0.1:{free_port()}", "--state-dir", str(tmp_path), "--script", str(script))
    with Program("providers.sim", *listen) as program:
        program.wait_output("every user and every program of this machine may change power")
