import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from pyVmomi import vim
from pyVmomi.VmomiSupport import GetVmodlType

from providers.core.adapter import GuestCredentials, GuestExit, GuestProcess
from providers.core.errors import CommandFailed
from providers.vsphere import guest_exec
from providers.vsphere.guest_exec import Guest, exit_code, fetch, start
from providers.vsphere.properties import VMProperties
from providers.vsphere.session import Link
from tests.unit.providers.vsphere.fake import FakeStub, OneSession, link, told

GUEST = Guest(VMProperties("vm-1", host="host-1", family="linuxGuest"), GuestCredentials("root", "geheim"))
OUTPUT = "/tmp/vmpower-1.out"
Process: Any = vim.vm.guest.ProcessManager.ProcessInfo


@pytest.fixture
def stub() -> FakeStub:
    stub = FakeStub()
    stub.answers = {"CreateTemporaryFileInGuest": OUTPUT, "StartProgramInGuest": 4711}
    return stub


def ended(code: int) -> list[list[Any]]:
    return [[Process(pid=4711, endTime=datetime.now(UTC), exitCode=code)]]


async def test_a_program_is_started_with_its_output_going_to_a_file_of_the_guests(stub: FakeStub) -> None:
    assert await start(link(stub), GUEST, ["/bin/echo", "ü"]) == (4711, OUTPUT)
    [(vm, login, spec)] = stub.called("StartProgramInGuest")
    assert (vm._moId, login.username, login.password, login.interactiveSession) == ("vm-1", "root", "geheim", False)
    assert (spec.programPath, OUTPUT in spec.arguments) == ("/bin/sh", True)


@pytest.mark.parametrize(
    ("family", "guest_id", "shell"),
    [
        ("windowsGuest", "", "cmd.exe"),
        ("", "windows2019srv_64Guest", "cmd.exe"),
        ("linuxGuest", "windows9_64Guest", "/bin/sh"),
        ("", "debian12_64Guest", "/bin/sh"),
    ],
)
async def test_the_shell_is_that_of_the_system_that_runs_or_else_of_the_one_configured(
    stub: FakeStub, family: str, guest_id: str, shell: str
) -> None:
    await start(link(stub), replace(GUEST, vm=VMProperties("vm-1", family=family, guest_id=guest_id)), ["app"])
    assert stub.called("StartProgramInGuest")[0][2].programPath.endswith(shell)


async def test_nothing_is_left_of_a_program_that_could_not_be_started(stub: FakeStub) -> None:
    stub.answers["StartProgramInGuest"] = vim.fault.FileNotFound(file="/bin/sh")
    with pytest.raises(vim.fault.FileNotFound):
        await start(link(stub), GUEST, ["app"])
    assert [path for *_, path in stub.called("DeleteFileInGuest")] == [OUTPUT]


async def test_nothing_is_left_of_a_command_that_cannot_be_carried(stub: FakeStub) -> None:
    with pytest.raises(CommandFailed):
        await start(link(stub), GUEST, ["app", "\0"])
    assert [path for *_, path in stub.called("DeleteFileInGuest")] == [OUTPUT]


async def test_a_program_that_runs_has_no_exit_code(stub: FakeStub) -> None:
    stub.answers["ListProcessesInGuest"] = [[Process(pid=4711)]]
    assert await exit_code(link(stub), GUEST, 4711) is None


async def test_a_program_that_ended_has_its_exit_code(stub: FakeStub) -> None:
    stub.answers["ListProcessesInGuest"] = ended(3)
    assert await exit_code(link(stub), GUEST, 4711) == 3


async def test_a_program_that_the_guest_has_forgotten_is_an_error(stub: FakeStub) -> None:
    stub.answers["ListProcessesInGuest"] = [[]]
    with pytest.raises(CommandFailed, match="4711"):
        await exit_code(link(stub), GUEST, 4711)


# The whole way


async def fetched(_link: Link, _guest: Guest, path: str) -> bytes:
    return f"from {path}".encode()


@pytest.fixture
def program(stub: FakeStub) -> GuestProcess:
    return GuestProcess("4711", partial(guest_exec.poll, OneSession(link(stub)), GUEST, 4711, OUTPUT))


async def test_a_program_that_runs_is_asked_after_by_one_call(stub: FakeStub, program: GuestProcess) -> None:
    stub.answers["ListProcessesInGuest"] = [[Process(pid=4711)]]
    assert (await program.poll(), program.pid) == (None, "4711")
    assert len(stub.calls) == 1


async def test_the_output_of_a_program_that_ended_is_fetched_and_its_file_removed(
    stub: FakeStub, program: GuestProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.answers["ListProcessesInGuest"] = ended(3)
    monkeypatch.setattr(guest_exec, "fetch", fetched)
    assert await program.poll() == GuestExit(3, b"from /tmp/vmpower-1.out")
    assert [path for *_, path in stub.called("DeleteFileInGuest")] == [OUTPUT]


async def test_how_a_program_ended_is_told_also_without_its_output(
    stub: FakeStub, program: GuestProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> bytes:
        raise CommandFailed("No output.")

    stub.answers["ListProcessesInGuest"] = ended(3)
    monkeypatch.setattr(guest_exec, "fetch", fail)
    assert await program.poll() == GuestExit(3, b"No output.")


async def test_a_file_that_cannot_be_removed_spoils_nothing(
    stub: FakeStub, program: GuestProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.answers |= {"ListProcessesInGuest": ended(0), "DeleteFileInGuest": vim.fault.FileFault(file=OUTPUT)}
    monkeypatch.setattr(guest_exec, "fetch", fetched)
    assert await program.poll() == GuestExit(0, b"from /tmp/vmpower-1.out")


# Fetching


class Host:
    """The ESXi host that has the file, with a certificate of its own."""

    def __init__(self, folder: Path) -> None:
        self.ca, self.folder = trustme.CA(), folder
        self.ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        issued = self.ca.issue_cert("127.0.0.1")
        self.pem = issued.cert_chain_pems[0].bytes()
        self.body, self.status, self.paths = b"", 200, list[str]()
        self.server = HTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(context)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.netloc = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def thumbprint(self) -> str:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.pem.decode())).hexdigest()

    def _handler(host) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the request's
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.paths.append(self.path)
                self.send_response(host.status)
                self.end_headers()
                self.wfile.write(host.body)

            def log_message(self, *_: object) -> None: ...

        return Handler


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.server.shutdown()
    host.server.server_close()


def offer(stub: FakeStub, netloc: str) -> None:
    transfer: Any = vim.vm.guest.FileManager.FileTransferInformation
    stub.answers["InitiateFileTransferFromGuest"] = transfer(url=f"https://{netloc}/guestFile?id=7&token=a%2Bb", size=1)


def octets(data: bytes) -> Any:
    """As vSphere sends bytes: signed numbers."""
    signed: Any = GetVmodlType("byte[]")()
    signed.extend(octet - 256 if octet > 127 else octet for octet in data)
    return signed


async def test_a_file_is_fetched_from_the_host_that_vcenter_names(stub: FakeStub, host: Host) -> None:
    host.body = b"out\n"
    offer(stub, host.netloc)
    assert await fetch(link(stub), GUEST, OUTPUT) == b"out\n"
    assert host.paths == ["/guestFile?id=7&token=a%2Bb"]


async def test_a_host_without_a_name_is_the_one_that_we_speak_to(stub: FakeStub, host: Host) -> None:
    offer(stub, "*")
    assert await fetch(link(stub, f"https://{host.netloc}/sdk"), GUEST, OUTPUT) == b""
    assert len(host.paths) == 1


async def test_only_the_end_of_a_long_file_is_kept(stub: FakeStub, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_exec, "KEPT_BYTES", 10)
    host.body = b"0123456789" * 1000 + b"the end"
    offer(stub, host.netloc)
    assert await fetch(link(stub), GUEST, OUTPUT) == b"789the end"


async def test_a_host_that_does_not_have_the_file_is_told(stub: FakeStub, host: Host) -> None:
    host.status = 404
    offer(stub, host.netloc)
    with pytest.raises(CommandFailed, match="404"):
        await fetch(link(stub), GUEST, OUTPUT)


async def test_a_host_that_cannot_be_reached_is_told_and_is_no_outage_of_vcenter(stub: FakeStub) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    offer(stub, f"127.0.0.1:{port}")
    with pytest.raises(CommandFailed, match=r"127\.0\.0\.1.*Connect call failed"):
        await fetch(link(stub), GUEST, OUTPUT)


async def test_a_host_that_is_not_vcenter_is_pinned_by_the_certificate_that_vcenter_knows(
    stub: FakeStub, host: Host
) -> None:
    offer(stub, host.netloc)
    stub.answers["RetrievePropertiesEx"] = told(vim.HostSystem("host-1", None), config_certificate=octets(host.pem))
    assert await fetch(link(stub, thumbprint="ab" * 32), GUEST, OUTPUT) == b""


async def test_a_host_with_another_certificate_than_vcenter_knows_is_not_asked(stub: FakeStub, host: Host) -> None:
    offer(stub, host.netloc)
    other = trustme.CA().issue_cert("127.0.0.1").cert_chain_pems[0].bytes()
    stub.answers["RetrievePropertiesEx"] = told(vim.HostSystem("host-1", None), config_certificate=octets(other))
    with pytest.raises(CommandFailed, match="thumbprint"):
        await fetch(link(stub, thumbprint="ab" * 32), GUEST, OUTPUT)
    assert host.paths == []


async def test_where_vcenter_itself_has_the_file_its_own_thumbprint_counts(stub: FakeStub, host: Host) -> None:
    offer(stub, "*")
    url = f"https://{host.netloc}/sdk"
    assert await fetch(link(stub, url, host.thumbprint), GUEST, OUTPUT) == b""
    with pytest.raises(CommandFailed, match="thumbprint"):
        await fetch(link(stub, url, "ab" * 32), GUEST, OUTPUT)
