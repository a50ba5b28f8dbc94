import hashlib
import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from providers.vsphere import wire
from providers.vsphere.config import VsphereSettings
from providers.vsphere.wire import Gate, Verifying, verifying


@dataclass
class Server:
    """Somebody who shakes hands, as 127.0.0.1."""

    address: tuple[str, int]
    ca: Path
    certificate: bytes

    def meet(self, context: Verifying, name: str = "127.0.0.1") -> None:
        """A handshake with it; raises what the context does not like."""
        with socket.create_connection(self.address) as plain, context.wrap_socket(plain, server_hostname=name):
            pass


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
    yield Server(listener.getsockname(), file, certificate)
    listener.close()


def _serve(listener: socket.socket, context: ssl.SSLContext) -> None:
    with suppress(OSError):
        while True:
            plain, _ = listener.accept()
            with suppress(OSError), plain, context.wrap_socket(plain, server_side=True) as connection:
                connection.recv(1)


def context(**fields: Any) -> Verifying:
    required = {"listen": "unix:///x", "url": "https://vcenter.example", "credentials_dir": "/x"}
    return verifying(VsphereSettings.model_validate(required | fields))


def test_a_certificate_of_the_named_ca_is_taken(server: Server) -> None:
    server.meet(context(ca_file=server.ca))


def test_a_certificate_of_another_name_is_refused(server: Server) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"vcenter\.example"):
        server.meet(context(ca_file=server.ca), "vcenter.example")


def test_a_certificate_of_a_ca_that_nobody_named_is_refused(server: Server) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        server.meet(context())


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_certificate_with_the_right_thumbprint_is_taken(server: Server, algorithm: str) -> None:
    digits = hashlib.new(algorithm, server.certificate).hexdigest().upper()
    server.meet(context(thumbprint=":".join(digits[i : i + 2] for i in range(0, len(digits), 2))), "any.example")


def test_a_certificate_with_another_thumbprint_is_refused_each_time(server: Server) -> None:
    other = context(thumbprint="ab" * 32)
    for _ in range(2):
        with pytest.raises(ssl.SSLCertVerificationError, match="another thumbprint"):
            server.meet(other)


def test_whoever_asks_for_it_gets_no_verification(server: Server) -> None:
    server.meet(context(insecure=True), "any.example")


def test_a_peer_that_vanishes_is_noticed_by_the_kernel(server: Server) -> None:
    with (
        socket.create_connection(server.address) as plain,
        context(insecure=True).wrap_socket(plain) as connection,
    ):
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


# How many calls at once


def all_at_once(*calls: Callable[[], None]) -> None:
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def most_inside(gate: Gate) -> int:
    """How many of fifty calls that come back at once are under way together."""
    inside, seen = list[int](), list[int]()

    def call() -> None:
        with gate.turn():
            inside.append(1)
            seen.append(len(inside))
            inside.pop()

    all_at_once(*[call] * 50)
    assert len(seen) == 50
    return max(seen)


def hold_two(gate: Gate) -> None:
    """Two calls, the first of which comes back only when the second is under way."""
    second_is_inside = threading.Event()

    def first() -> None:
        with gate.turn():
            assert second_is_inside.wait(30)

    def second() -> None:
        with gate.turn():
            second_is_inside.set()

    all_at_once(first, second)


def test_calls_that_come_back_at_once_go_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PATIENCE", 30)
    assert most_inside(Gate()) == 1


def test_another_call_goes_beside_one_that_does_not_come_back() -> None:
    hold_two(Gate())


def test_a_vcenter_that_takes_its_time_is_asked_by_several_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=0.02)
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr(wire, "PATIENCE", 30)
    gate, together = Gate(), threading.Barrier(5)
    with gate.turn():
        pass

    def call() -> None:
        with gate.turn():
            together.wait(30)

    all_at_once(*[call] * 5)


def test_there_is_room_for_one_again_when_all_have_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    hold_two(gate)
    monkeypatch.setattr(wire, "PATIENCE", 30)
    assert most_inside(gate) == 1
