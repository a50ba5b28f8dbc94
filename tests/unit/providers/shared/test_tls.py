import asyncio
import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from providers.core.errors import HypervisorUnavailable
from providers.shared.tls import Trust, Verifying, verifying


@dataclass
class Server:
    """Somebody who shakes hands, as 127.0.0.1."""

    address: tuple[str, int]
    ca: Path
    certificate: bytes
    context: ssl.SSLContext

    async def meet(self, context: Verifying, name: str = "127.0.0.1") -> None:
        """A handshake with it; raises what the context does not like."""
        _, writer = await asyncio.open_connection(*self.address, ssl=context, server_hostname=name)
        writer.close()
        await writer.wait_closed()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    ca, file = trustme.CA(), tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    issued = ca.issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(listener, context), daemon=True).start()
    certificate = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
    yield Server(listener.getsockname(), file, certificate, context)
    listener.close()


def _serve(listener: socket.socket, context: ssl.SSLContext) -> None:
    with suppress(OSError):
        while True:
            plain, _ = listener.accept()
            with suppress(OSError), plain, context.wrap_socket(plain, server_side=True) as connection:
                connection.recv(1)


def context(**fields: Any) -> Verifying:
    return verifying(Trust(**fields))


async def test_a_certificate_of_the_named_ca_is_taken(server: Server) -> None:
    await server.meet(context(ca_file=server.ca))


async def test_a_certificate_of_another_name_is_refused(server: Server) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"vcenter\.example"):
        await server.meet(context(ca_file=server.ca), "vcenter.example")


async def test_a_certificate_of_a_ca_that_nobody_named_is_refused(server: Server) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await server.meet(context())


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
async def test_a_certificate_with_the_right_thumbprint_is_taken(server: Server, algorithm: str) -> None:
    digits = hashlib.new(algorithm, server.certificate).hexdigest().upper()
    await server.meet(context(pins=(":".join(digits[i : i + 2] for i in range(0, len(digits), 2)),)), "any.example")


async def test_a_certificate_with_another_thumbprint_is_refused_each_time(server: Server) -> None:
    other = context(pins=("ab" * 32,), flag="--thumbprint")
    for _ in range(2):
        with pytest.raises(ssl.SSLCertVerificationError, match="another thumbprint"):
            await server.meet(other)


async def test_whoever_asks_for_it_gets_no_verification(server: Server) -> None:
    await server.meet(context(insecure=True), "any.example")


async def test_a_connection_is_closed_without_waiting_for_the_other_end_to_say_so_too(server: Server) -> None:
    done = threading.Event()

    def hold() -> None:
        plain, _ = listener.accept()
        with plain, server.context.wrap_socket(plain, server_side=True):
            done.wait()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        holding = threading.Thread(target=hold, daemon=True)
        holding.start()
        silent = Server(listener.getsockname(), server.ca, server.certificate, server.context)
        await asyncio.wait_for(silent.meet(context(ca_file=server.ca)), 10)  # asyncio itself waits for 30 s
        done.set()
        holding.join()


def test_a_ca_that_cannot_be_read_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(HypervisorUnavailable, match=rf"No such file.*operator mends --ca-file {tmp_path}/none"):
        verifying(Trust(ca_file=tmp_path / "none"))
