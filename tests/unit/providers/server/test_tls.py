"""Where TLS may be left out, and a real server with it: certificates made here, roles, rotation."""

import os
import socket
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
import trustme
from structlog.testing import capture_logs

from providers.core.settings import Settings
from providers.server.tls import Follower, InsecureAddress, credentials


class Files:
    """A server's certificate files, and the authority that signs for both sides."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.cert, self.key, self.ca = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)
        self.issue()

    def issue(self) -> bytes:
        """Write a new certificate for the server; returns it."""
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(self.key)
        issued.cert_chain_pems[0].write_to_path(self.cert)
        return issued.cert_chain_pems[0].bytes()

    def settings(self, listen: str = "0.0.0.0:0") -> Settings:
        return Settings(
            listen=listen,
            state_dir=self.ca.parent,
            tls_cert=self.cert,
            tls_key=self.key,
            tls_client_ca=self.ca,
        )


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.parametrize("listen", ["unix:///run/vmpower.sock", "127.0.0.1:9443"])
def test_a_private_address_needs_no_tls(listen: str, tmp_path: Path) -> None:
    assert credentials(Settings(listen=listen, state_dir=tmp_path)) is None


def test_an_open_address_without_tls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InsecureAddress, match=r"0\.0\.0\.0:9443 needs mutual TLS: set --tls-cert"):
        credentials(Settings(listen="0.0.0.0:9443", state_dir=tmp_path))


def test_tls_without_an_authority_for_clients_is_refused(files: Files) -> None:
    settings = files.settings().model_copy(update={"tls_client_ca": None})
    with pytest.raises(InsecureAddress, match="--tls-client-ca"):
        credentials(settings)


def test_half_of_tls_is_refused_even_on_loopback(files: Files) -> None:
    settings = files.settings("127.0.0.1:9443").model_copy(update={"tls_key": None})
    with pytest.raises(InsecureAddress):
        credentials(settings)


def test_a_certificate_file_that_is_not_there_is_refused_by_name(files: Files) -> None:
    files.cert.unlink()
    with pytest.raises(InsecureAddress, match=r"cert\.pem"):
        credentials(files.settings())


class Echo(grpc.GenericRpcHandler):
    """Answers every call with the name on the client's certificate."""

    def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:  # type: ignore[type-arg]
        return grpc.unary_unary_rpc_method_handler(
            lambda _request, context: b",".join(context.auth_context().get("x509_common_name", [b"nobody"]))
        )


@pytest.fixture
def port(files: Files) -> Iterator[int]:
    """A real server on loopback, with these files."""
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Echo()])
    given = credentials(files.settings())
    assert given
    port = server.add_secure_port("127.0.0.1:0", given)
    server.start()
    yield port
    server.stop(None).wait()


def ask(port: int, root: bytes, client: trustme.LeafCert | None) -> bytes:
    """Who the server takes this client for."""
    pair = (client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes()) if client else (None, None)
    given = grpc.ssl_channel_credentials(root, *pair)
    with grpc.secure_channel(f"localhost:{port}", given) as channel:
        call: Callable[..., bytes] = channel.unary_unary("/any/Method")
        return call(b"", timeout=10)


def client_of(authority: trustme.CA, name: str = "alice") -> trustme.LeafCert:
    return authority.issue_cert(f"{name}.example", common_name=name)


def test_a_client_with_a_certificate_is_known_by_its_name(port: int, files: Files) -> None:
    assert ask(port, files.ca.read_bytes(), client_of(files.authority)) == b"alice"


def test_a_client_without_a_certificate_is_turned_away(port: int, files: Files) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        ask(port, files.ca.read_bytes(), None)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_client_of_another_authority_is_turned_away(port: int, files: Files) -> None:
    with pytest.raises(grpc.RpcError):
        ask(port, files.ca.read_bytes(), client_of(trustme.CA()))


def test_a_new_authority_is_followed_without_a_restart(port: int, files: Files) -> None:
    old = client_of(files.authority)
    assert ask(port, files.ca.read_bytes(), old) == b"alice"
    files.authority = trustme.CA()
    files.authority.cert_pem.write_to_path(files.ca)
    files.issue()
    assert ask(port, files.ca.read_bytes(), client_of(files.authority, "bob")) == b"bob"
    with pytest.raises(grpc.RpcError):
        ask(port, files.ca.read_bytes(), old)


def test_files_that_did_not_change_are_not_read_again(files: Files) -> None:
    assert Follower(files.settings()).reload() is None


def test_files_that_changed_are_read_again_once(files: Files) -> None:
    follower = Follower(files.settings())
    files.issue()
    assert follower.reload() is not None
    assert follower.reload() is None


def test_a_link_that_points_elsewhere_is_a_change(files: Files, tmp_path: Path) -> None:
    """As a mounted Kubernetes secret rotates: the files are links into a directory that is swapped."""
    new = tmp_path / "new.pem"
    new.write_bytes(files.cert.read_bytes())
    stamp = files.cert.stat()
    os.utime(new, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    follower = Follower(files.settings())
    files.cert.unlink()
    files.cert.symlink_to(new)
    assert follower.reload() is not None


def test_files_that_are_away_for_a_moment_leave_the_old_ones_in_force(files: Files) -> None:
    follower = Follower(files.settings())
    files.cert.unlink()
    with capture_logs() as logs:
        assert follower.reload() is None
    assert logs[0]["event"] == "certificates not re-read, the old ones stay"
    files.issue()
    assert follower.reload() is not None


@pytest.mark.parametrize("content", ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
@pytest.mark.parametrize("file", ["cert", "ca"])
def test_a_file_without_a_certificate_is_refused_by_name_and_with_who_acts(
    files: Files, file: str, content: str
) -> None:
    getattr(files, file).write_text(content)
    with pytest.raises(InsecureAddress, match=rf"{file}\.pem has no certificate in PEM.*; its operator mends that"):
        credentials(files.settings())


@pytest.mark.parametrize("content", ["", "garbage"])
def test_a_file_without_a_key_is_refused_by_name(files: Files, content: str) -> None:
    files.key.write_text(content)
    with pytest.raises(InsecureAddress, match=r"key\.pem has no private key in PEM"):
        credentials(files.settings())


def test_a_key_of_another_certificate_is_refused(files: Files) -> None:
    files.authority.issue_cert("localhost").private_key_pem.write_to_path(files.key)
    with pytest.raises(InsecureAddress, match=r"the key in .*key\.pem is not that of the certificate in .*cert\.pem"):
        credentials(files.settings())


def test_a_renewal_whose_key_does_not_fit_leaves_the_old_pair_serving_and_that_is_said_once(
    port: int, files: Files
) -> None:
    files.authority.issue_cert("localhost").private_key_pem.write_to_path(files.key)
    with capture_logs() as logs:
        assert ask(port, files.ca.read_bytes(), client_of(files.authority)) == b"alice"
        assert ask(port, files.ca.read_bytes(), client_of(files.authority)) == b"alice"
    assert [each["event"] for each in logs] == ["certificates not re-read, the old ones stay"]
    assert "the key in" in logs[0]["error"]


def test_an_authority_that_becomes_garbage_leaves_the_old_one_in_force(port: int, files: Files) -> None:
    root = files.ca.read_bytes()
    files.ca.write_text("garbage")
    assert ask(port, root, client_of(files.authority)) == b"alice"


def test_localhost_that_is_another_machine_needs_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]
    monkeypatch.setattr("common.addresses.socket.getaddrinfo", lambda *_args, **_more: answer)
    with pytest.raises(InsecureAddress, match=r"localhost is 192\.0\.2\.1 here"):
        credentials(Settings(listen="localhost:9443", state_dir=tmp_path))
