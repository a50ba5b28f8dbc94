"""`python -m client.health [HOST:PORT...]`: exits with 0 if each says that it is SERVING, else with 1 and says why.

Without an address it asks at VMPOWER_HEALTH_LISTEN: this is what a container's HEALTHCHECK runs. `helm test` names all
programs of a release. Kubernetes asks by itself (grpc_health_v1, service "").
"""

import socket
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.environment import variable

TIMEOUT = 5.0
"""Seconds; within the timeout of the image's HEALTHCHECK, which Python's own start is part of."""
_State = health_pb2.HealthCheckResponse.ServingStatus


def trouble(address: str, timeout: float = TIMEOUT) -> str:
    """Why the program is not healthy, in a sentence; "" if it is. `timeout` is in seconds."""
    if not address:
        return "no health is served: VMPOWER_HEALTH_LISTEN is empty"
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]  # its stubs lack it
                health_pb2.HealthCheckRequest(), timeout=timeout
            )
        except grpc.RpcError as error:
            return f"{address}: {error.code().name}: {error.details()}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return f"{address}: {_State.Name(answer.status)}: the program runs, and cannot do its work; its log says why"


def behind(target: str) -> list[str]:
    """All addresses (host:port) of a name: a headless Service has one for each of its pods.

    Raises:
        OSError: the name has none.
    """
    host, _, port = target.rpartition(":")
    found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    hosts = dict.fromkeys(str(place[0]) for *_, place in found)
    return [f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in hosts]


def troubles(targets: list[str]) -> list[str]:
    """Why programs at these names are not healthy, a sentence for each that is not."""
    return [found for target in targets for found in _of(target)]


def _of(target: str) -> list[str]:
    try:
        places = behind(target)
    except OSError as error:
        return [f"{target}: {error.strerror}: no program has this name"]
    return [f"{target}: {text}" for text in map(trouble, places) if text]


def main() -> None:
    """Ask once."""
    targets = sys.argv[1:]
    said = troubles(targets) if targets else [trouble(variable("VMPOWER_HEALTH_LISTEN"))]
    if found := "\n".join(said):
        sys.exit(found)


if __name__ == "__main__":
    main()
