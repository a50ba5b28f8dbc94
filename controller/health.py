"""grpc.health.v1 on a TCP address, as kubelets probe it: plaintext, and nothing but health.

`""` and `liveness` are SERVING from start to stop. What the controller reaches is told by the resources' conditions:
a provider or an API server that is away is no reason to start the controller anew.
"""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from common.listening import listening
from common.probes import PROBES

SERVICES = ("", "liveness")


class Health:
    """A server of health alone. Made inside a running event loop."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._checker = health.HealthServicer()
        self._server = grpc.aio.server(options=list(PROBES.items()))
        health_pb2_grpc.add_HealthServicer_to_server(self._checker, self._server)

    async def start(self) -> None:
        """Serve.

        Raises:
            CannotListen: another process serves at this address, or it is not an address.
        """
        with listening(self._address, "--health-listen"):
            self._server.add_insecure_port(self._address)
        for service in SERVICES:
            await self._checker.set(service, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)
