"""Clients that take all they can get, of one provider at once: it keeps a deadline, and answers probes and new clients.

What they do is told in issue 14 and bounded in docs/bounds.md. The machine gives the provider no thread meanwhile.
"""

import os
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from protos.power.v1 import power_pb2 as pb
from tests.e2e.hostile import AHEAD_OF_OTHER_TESTS, PATIENCE, SILENT, Attack, endless_100_continue, probe, trying
from tests.rigs.calls import calls
from tests.rigs.polling import poll
from tests.rigs.ports import free_port
from tests.rigs.process import Provider, as_user
from tests.rigs.usage import rss

SCRIPT = """
guests:
  deaf: {agent: none, acpi: ignores}
  hooked: {agent: none, acpi: ignores}
  many: {count: 100}
"""
DEADLINE, LATE = 5.0, 1.0
HOOKS = 300_000
FILES = 1_024, 4_096
"""The soft limit, which the issue was found with, and the hard one, up to which a provider raises it."""
OTHER_USER = 61_234
"""A limit of threads does not count for root."""
AS_ANOTHER_USER = f"""
import os
from providers.sim.__main__ import main
if os.geteuid() == 0:
    os.setgroups([]), os.setgid({OTHER_USER}), os.setuid({OTHER_USER})
main()
"""


@dataclass
class Victim:
    """A provider, and where it listens."""

    provider: Provider
    metrics: int
    health: int

    @property
    def path(self) -> str:
        return self.provider.address.removeprefix("unix://")

    def scraped(self) -> str:
        """Its metrics; nothing where the connection is refused."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=PATIENCE) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    @contextmanager
    def without_threads(self) -> Iterator[None]:
        """From now on none can be begun."""
        before = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        self._limit_threads("1:")
        try:
            yield
        finally:
            self._limit_threads(f"{before}:")

    def _limit_threads(self, limit: str) -> None:
        """A process is limited by its own user alone."""
        command = ["prlimit", "--pid", str(self.provider.process.pid), f"--nproc={limit}"]
        subprocess.run(as_user(OTHER_USER, OTHER_USER, command), check=True)


@pytest.fixture
def victim(request: pytest.FixtureRequest) -> Iterator[Victim]:
    soft, hard = getattr(request, "param", FILES)
    victim = Victim(Provider("sim"), free_port(), free_port())
    folder = victim.provider.folder
    (folder / "script.yaml").write_text(SCRIPT)
    (folder / "state").mkdir()
    if os.geteuid() == 0:
        for path in (folder, folder / "state", folder / "script.yaml"):
            os.chown(path, OTHER_USER, OTHER_USER)
    victim.provider.command = [
        *AHEAD_OF_OTHER_TESTS,
        *("prlimit", f"--nofile={soft}:{hard}", sys.executable, "-c", AS_ANOTHER_USER),
        *victim.provider.command[3:],
        *("--script", str(folder / "script.yaml"), "--http-hook-hosts", "127.0.0.1"),
        *("--metrics-listen", f"127.0.0.1:{victim.metrics}", "--health-listen", f"127.0.0.1:{victim.health}"),
    ]
    with victim.provider:
        yield victim


def newcomer(address: str) -> None:
    """A client that was not there before."""
    with calls(address) as client:
        client.stub.GetVM(pb.GetVMRequest(vm="deaf"), wait_for_ready=True, timeout=PATIENCE)


def test_a_provider_under_all_of_them_keeps_its_deadline_and_answers_probes_and_new_clients(victim: Victim) -> None:
    provider = victim.provider
    with calls(provider.address) as client, endless_100_continue() as port:
        before = rss(provider.process.pid)
        hook = pb.Hook(http_get=pb.HttpGetHook(url=f"http://127.0.0.1:{port}/"))
        client.stub.Shutdown(pb.ShutdownRequest(vm="hooked", pre_stop=[hook], timeout=Duration(seconds=60)))
        tries = {"probes": lambda: probe(victim.health), "new clients": lambda: newcomer(provider.address)}
        with victim.without_threads(), Attack(victim.path, victim.metrics) as attack, trying(**tries) as tried:
            began = time.monotonic()
            operation = client.stub.Shutdown(pb.ShutdownRequest(vm="deaf", timeout=Duration(seconds=int(DEADLINE))))
            many = client.stub.Shutdown.future(pb.ShutdownRequest(vm="deaf", pre_stop=[pb.Hook()] * HOOKS))
            ended = client.end(operation, timeout=30)
            told = time.monotonic() - began
            alive, memory = provider.runs(), rss(provider.process.pid, peak=True)
        assert "vmpower_hypervisor_connected 1.0" in poll(victim.scraped, PATIENCE)
        stopped = provider.stop()
    off = (ended.verdict.end_time.ToNanoseconds() - operation.create_time.ToNanoseconds()) / 1e9
    print(f"forced after {off:.2f} s and told after {told:.2f} s; begun: {attack.begun}")
    print(*(f"{name}: {each}" for name, each in tried.items()), sep="; ")
    print(f"memory {before} MiB, at the most {memory} MiB")
    assert alive
    assert ended.verdict.outcome == pb.OUTCOME_FORCED
    assert DEADLINE <= off <= DEADLINE + LATE
    assert told < DEADLINE + LATE
    assert many.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert {name: each.failed for name, each in tried.items()} == {"probes": [], "new clients": []}
    assert all(len(each.took) >= 3 for each in tried.values())
    assert memory - before < 512
    assert stopped in (0, -signal.SIGALRM)  # gRPC waits for ever for threads that it was refused


@pytest.mark.parametrize("victim", [(1_024, 1_024)], indirect=True)
def test_where_files_are_few_new_clients_wait_for_the_silent_ones_to_be_ended(victim: Victim) -> None:
    """Which they are after 10 s."""
    with Attack(victim.path, victim.metrics, stalled=0, again=False) as attack:
        poll(lambda: attack.begun.get("silent connections") == SILENT)
        began = time.monotonic()
        probe(victim.health)
        probed = time.monotonic() - began
        newcomer(victim.provider.address)
        waited = time.monotonic() - began
    print(
        f"beside {SILENT} silent connections: probed after {probed:.2f} s, a new client was served after {waited:.2f} s"
    )
    assert probed < LATE
    assert waited < 15
