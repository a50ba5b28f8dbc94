"""`python -m client.health`: exits with 0 if health at VMPOWER_HEALTH_LISTEN says SERVING; else with 1, and says why.

This is what a container's HEALTHCHECK runs; Kubernetes asks by itself (grpc_health_v1, service "").
"""

import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

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


def main() -> None:
    """Ask once."""
    if found := trouble(os.environ.get("VMPOWER_HEALTH_LISTEN", "")):
        sys.exit(found)


if __name__ == "__main__":
    main()
