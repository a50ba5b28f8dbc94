"""What clients take of a listener with TLS: connections, handshakes that they do not end, and streams, by a certificate
that may only read. The provider keeps a deadline, and answers probes and operators' new connections."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from protos.power.v1 import power_pb2 as pb
from tests.e2e.hostile import AHEAD_OF_OTHER_TESTS, PATIENCE, Attack, probe, serves, trying
from tests.rigs.calls import Calls
from tests.rigs.polling import poll
from tests.rigs.ports import free_port
from tests.rigs.process import Program
from tests.unit.providers.server.pki import Authority, Issued

SCRIPT = "guests: {deaf: {agent: none, acpi: ignores}}"
DEADLINE, LATE = 5.0, 1.0


@dataclass
class Victim:
    """A provider of an authority, and where it listens."""

    process: Program
    authority: Authority
    port: int
    metrics: int
    health: int

    @contextmanager
    def calls(self, client: Issued) -> Iterator[Calls]:
        """A connection of its own."""
        credentials = grpc.ssl_channel_credentials(self.authority.pem, client.key, client.cert)
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(f"localhost:{self.port}", credentials, options) as channel:
            yield Calls(channel)


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    authority, ports = Authority(), [free_port() for _ in range(3)]
    server = authority.issue("localhost", dns=["localhost"])
    files = {"ca.crt": authority.pem, "tls.crt": server.cert, "tls.key": server.key, "script.yaml": SCRIPT.encode()}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    process = Program(
        "providers.sim",
        *("--listen", f"127.0.0.1:{ports[0]}", "--metrics-listen", f"127.0.0.1:{ports[1]}"),
        *("--health-listen", f"127.0.0.1:{ports[2]}", "--operators", "cn:operator"),
        *("--tls-client-ca", str(tmp_path / "ca.crt"), "--tls-cert", str(tmp_path / "tls.crt")),
        *("--tls-key", str(tmp_path / "tls.key"), "--script", str(tmp_path / "script.yaml")),
        *("--state-dir", str(tmp_path / "state")),
    )
    process.command = [*AHEAD_OF_OTHER_TESTS, *process.command]
    with process:
        victim = Victim(process, authority, *ports)
        poll(lambda: serves(victim.health))
        yield victim


def context(folder: Path, authority: Authority, client: Issued) -> ssl.SSLContext:
    """As this client speaks TLS."""
    (folder / "client.pem").write_bytes(client.cert + client.key)
    made = ssl.create_default_context(cadata=authority.pem.decode())
    made.load_cert_chain(folder / "client.pem")
    made.set_alpn_protocols(["h2"])
    return made


def test_a_provider_keeps_its_deadline_and_answers_probes_and_operators(victim: Victim, tmp_path: Path) -> None:
    operator, reader = victim.authority.issue("operator"), victim.authority.issue("reader")

    def newcomer() -> None:
        with victim.calls(operator) as client:
            client.stub.GetVM(pb.GetVMRequest(vm="deaf"), wait_for_ready=True, timeout=PATIENCE)

    tls = context(tmp_path, victim.authority, reader)
    tries = {"probes": lambda: probe(victim.health), "new operators": newcomer}
    with (
        victim.calls(operator) as client,
        Attack(("127.0.0.1", victim.port), victim.metrics, tls=tls) as attack,
        trying(**tries) as tried,
    ):
        operation = client.stub.Shutdown(
            pb.ShutdownRequest(vm="deaf", timeout=Duration(seconds=int(DEADLINE))), wait_for_ready=True
        )
        ended = client.end(operation, timeout=30)
    stopped = victim.process.stop()
    off = (ended.verdict.end_time.ToNanoseconds() - operation.create_time.ToNanoseconds()) / 1e9
    print(f"forced after {off:.2f} s; begun: {attack.begun}")
    print(*(f"{name}: {each}" for name, each in tried.items()), sep="; ")
    assert ended.verdict.outcome == pb.OUTCOME_FORCED
    assert DEADLINE <= off <= DEADLINE + LATE
    assert {name: each.failed for name, each in tried.items()} == {"probes": [], "new operators": []}
    assert all(len(each.took) >= 3 for each in tried.values())
    assert attack.begun["handshakes"] > 0
    assert attack.begun["stalled streams"] > 0
    assert stopped == 0


def test_what_a_reader_does_to_power_is_refused_beside_it(victim: Victim) -> None:
    reader = victim.authority.issue("reader")
    with victim.calls(reader) as client, pytest.raises(grpc.RpcError) as refused:
        client.stub.PowerOff(pb.PowerOffRequest(vm="deaf"), wait_for_ready=True, timeout=PATIENCE)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
