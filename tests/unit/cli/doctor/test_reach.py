"""The way to a provider, over real sockets; tests/e2e/test_doctor.py has it with real certificates."""

import errno
import grp
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cli.doctor import reach
from cli.doctor.finding import Check
from client.channel import Tls
from tests.unit.providers.server.pki import Authority


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("host:9443", ("host", 9443)),
        ("host", ("host", 443)),
        ("dns:///host.example:1", ("host.example", 1)),
        ("ipv4:127.0.0.1:2", ("127.0.0.1", 2)),
        ("[::1]:3", ("::1", 3)),
        ("ipv6:[::1]:3", ("::1", 3)),
        ("unix:///p.sock", None),
        ("xds:///service", None),
    ],
)
def test_a_target_has_a_host_and_a_port(address: str, place: tuple[str, int] | None) -> None:
    assert reach.place(address) == place


async def checks(address: str, tls: Tls | None = None) -> list[str]:
    return [finding.check for finding in await reach.look(address, tls)]


async def test_a_socket_that_is_not_there_is_missing(tmp_path: Path) -> None:
    assert await checks(f"unix://{tmp_path}/p.sock") == [Check.SOCKET_MISSING]


async def test_a_socket_that_was_left_behind_has_no_listener(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "p.sock"))
    assert await checks(f"unix://{tmp_path}/p.sock") == [Check.NOT_LISTENING]


async def test_a_folder_that_may_not_be_entered_is_named_and_not_the_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    (closed / "inner").mkdir(parents=True)
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(os, "access", lambda path, _mode, **_: path != closed)  # root may enter every folder
    (finding,) = await reach.look(f"unix://{closed}/inner/p.sock", None)
    assert (finding.check, finding.what) == (
        Check.FOLDER_PERMISSION,
        f"You may not enter the directory {closed}, in which the socket {closed}/inner/p.sock is.",
    )
    assert finding.commands[0] == f"ls -ld {closed}"


async def test_a_socket_that_may_not_be_opened_is_named_with_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.sock").touch()
    monkeypatch.setattr(socket.socket, "connect", refused)
    (finding,) = await reach.look(f"unix://{tmp_path}/p.sock", None)
    assert (finding.check, finding.what) == (
        Check.SOCKET_PERMISSION,
        f"You may not open the socket {tmp_path}/p.sock.",
    )
    group = grp.getgrgid((tmp_path / "p.sock").stat().st_gid).gr_name
    assert f"--groups {group} " in finding.commands[1]


def refused(*_: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


async def test_a_port_that_speaks_tls_where_none_is_configured_is_told_as_that(tmp_path: Path) -> None:
    issued = Authority().issue("provider.example")
    (tmp_path / "cert.pem").write_bytes(issued.cert)
    (tmp_path / "key.pem").write_bytes(issued.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with answering(context) as address:
        (finding,) = await reach.look(address, None)
    assert finding.check == Check.TLS_MISSING
    assert "tls: {ca: FILE, cert: FILE, key: FILE}" in finding.who


async def test_a_port_that_speaks_no_tls_lacks_none_in_the_configuration() -> None:
    with answering(None) as address:
        assert await checks(address) == []


@contextmanager
def answering(context: ssl.SSLContext | None) -> Iterator[str]:
    """A server of one protocol that waits for the client's first word, as one of TLS and one of HTTP/1.1 do."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection, suppress(OSError):
                if context:
                    context.wrap_socket(connection, server_side=True).close()
                else:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


async def test_a_file_that_is_no_socket_has_no_listener(tmp_path: Path) -> None:
    (tmp_path / "p.sock").touch()
    assert await checks(f"unix://{tmp_path}/p.sock") == [Check.NOT_LISTENING]


async def test_a_socket_that_answers_is_well(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "p.sock"))
        server.listen()
        assert await checks(f"unix://{tmp_path}/p.sock") == []


async def test_a_port_that_is_closed_has_no_listener() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        assert await checks(f"127.0.0.1:{held.getsockname()[1]}") == [Check.NOT_LISTENING]


async def test_a_host_without_an_address_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert await checks("provider.example:9443") == [Check.HOST_UNKNOWN]


async def test_a_host_that_says_nothing_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(*_: object, **__: object) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", wait)
    assert await checks("192.0.2.1:9443") == [Check.HOST_UNREACHABLE]


async def test_a_tls_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    tls = Tls(tmp_path / "ca.pem", tmp_path / "me.pem", tmp_path / "me.key")
    with socket.create_server(("127.0.0.1", 0)) as server:
        (finding,) = await reach.look(f"127.0.0.1:{server.getsockname()[1]}", tls)
    assert (finding.check, f"{tmp_path}/ca.pem" in finding.what) == (Check.TLS_FILES, True)


def unfit(files: Path, which: str, content: bytes) -> Tls:
    """Files of one client that fit together, but for this one."""
    issued = Authority("mine").issue("operator")
    good = {"ca": Authority("theirs").pem, "cert": issued.cert, "key": issued.key}
    for name, pem in (good | {which: content}).items():
        (files / f"{name}.pem").write_bytes(pem)
    return Tls(files / "ca.pem", files / "cert.pem", files / "key.pem")


@pytest.mark.parametrize("which", ["ca", "cert", "key"])
async def test_a_tls_file_that_is_no_pem_is_named_and_no_other(tmp_path: Path, which: str) -> None:
    tls = unfit(tmp_path, which, b"no PEM")
    with socket.create_server(("127.0.0.1", 0)) as server:
        (finding,) = await reach.look(f"127.0.0.1:{server.getsockname()[1]}", tls)
    assert (finding.check, finding.what.startswith(f"{tmp_path}/{which}.pem has no ")) == (Check.TLS_FILES, True)
    assert finding.commands[0] == f"ls -l {tmp_path}/{which}.pem"


async def test_a_key_of_another_certificate_is_named_with_the_certificate(tmp_path: Path) -> None:
    tls = unfit(tmp_path, "key", Authority().issue("another").key)
    with socket.create_server(("127.0.0.1", 0)) as server:
        (finding,) = await reach.look(f"127.0.0.1:{server.getsockname()[1]}", tls)
    assert (finding.check, finding.what) == (
        Check.TLS_KEY,
        f"The key in {tmp_path}/key.pem is not that of the certificate in {tmp_path}/cert.pem.",
    )
    assert finding.commands == (
        f"openssl pkey -in {tmp_path}/key.pem -pubout",
        f"openssl x509 -in {tmp_path}/cert.pem -noout -pubkey  # must be the same",
    )


async def test_an_address_of_another_kind_is_left_to_grpc() -> None:
    assert await checks("xds:///service") == []
