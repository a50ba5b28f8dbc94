"""A cluster with a provider before it, and what its callers see of shutdowns that are disturbed."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Unpack

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.power.v1 import power_pb2 as pb
from tests.rigs.calls import FINAL, Calls, calls
from tests.rigs.polling import poll
from tests.rigs.process import QUICK, SERVICE, SERVING, Provider
from tests.rigs.proxmox.cluster import Behaviour, Cluster, Options
from tests.rigs.proxmox.provider import provider

PATIENCE = 100


@dataclass
class Served:
    """The three of them. Guests are known by their keys, which are their names."""

    cluster: Cluster
    provider: Provider
    calls: Calls

    def shutdown(self, vm: str, seconds: float = 60, **fields: Any) -> pb.Operation:
        """Begin a shutdown."""
        return self.calls.stub.Shutdown(pb.ShutdownRequest(vm=vm, timeout=duration(seconds), **fields))

    def ask(self, vm: str, seconds: float = 60, **fields: Any) -> pb.Operation:
        """Begin a shutdown; return when Proxmox VE was asked for it."""
        operation = self.shutdown(vm, seconds, **fields)
        wait_until(lambda: bool(self.asked(vm)))
        return operation

    def asked(self, vm: str) -> list[str]:
        """What Proxmox VE was asked to do with a guest."""
        return [how for _, how, _ in self.cluster.show(vm)["asked"]]

    def ending(self, operation: pb.Operation) -> str:
        """How it ended, in the contract's short words."""
        return ending(self.calls.end(operation))

    def ended(self, operation: pb.Operation) -> bool:
        """Whether it has."""
        return self.calls.stub.GetOperation(pb.GetOperationRequest(id=operation.id)).state in FINAL

    def restart(self) -> None:
        """SIGKILL, and a new start."""
        self.provider.kill()
        self.provider.start()


@contextmanager
def served(
    guests: Mapping[str, Behaviour], *args: str, ticket: bool = False, **options: Unpack[Options]
) -> Iterator[Served]:
    """A cluster with these guests. With `ticket`, the provider logs in with a password and not with a token."""
    with Cluster(guests, **options) as cluster:
        login = [f"--credentials-dir={cluster.credentials}"] if ticket else []
        with provider(cluster, *args, *login) as process, calls(process.address) as client:
            yield Served(cluster, process, client)


def duration(seconds: float) -> Duration:
    """Seconds as the contract writes them."""
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def ending(operation: pb.Operation) -> str:
    """GRACEFUL, FORCED/TIMEOUT, ...; of an operation without a verdict the failure's words."""
    verdict = operation.verdict
    if not verdict.outcome:
        return operation.error.message
    reason = f"/{pb.Reason.Name(verdict.reason).removeprefix('REASON_')}" if verdict.reason else ""
    return pb.Outcome.Name(verdict.outcome).removeprefix("OUTCOME_") + reason


def logins(cluster: Cluster) -> int:
    """How often somebody logged in with a password."""
    return sum((method, path) == ("POST", "/access/ticket") for method, path, _ in cluster.requests())


def until_health(address: str, serving: bool, timeout: float = 60) -> None:
    """Return when a provider says SERVING, or no longer does."""
    with grpc.insecure_channel(address, options=QUICK) as channel:
        answers = health_pb2_grpc.HealthStub(channel).Watch(  # type: ignore[attr-defined]  # its stubs lack it
            health_pb2.HealthCheckRequest(service=SERVICE), timeout=timeout, wait_for_ready=True
        )
        next(answer for answer in answers if (answer.status == SERVING) is serving)


def wait_until(holds: Callable[[], bool]) -> None:
    """Until it is so, for what the rig and PVE's API report only when they are asked."""
    poll(holds, PATIENCE)


def wait_for(moment: float) -> None:
    """Until this moment of `time.time()` has passed, which is what the test is about."""
    time.sleep(max(0.0, moment - time.time()))
