"""Programs in guests, by GuestOperationsManager. No vSphere has an event for their end.

All of it needs a login in the guest. What a program prints goes to a file there, which is fetched when it has ended
and removed. One that is given up on goes on, and its file stays.
"""

import hashlib
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from pyVmomi import vim, vmodl

from providers.adapter import GuestCredentials, GuestExit
from providers.blocking import Lane
from providers.errors import CommandFailed, HypervisorError
from providers.vsphere.collector import certificate, guest_managers
from providers.vsphere.properties import Machine
from providers.vsphere.quoting import by_shell, for_guest
from providers.vsphere.session import Link, Session
from providers.vsphere.wire import pinned

FETCH_SECONDS = 10
"""How long a host may take to hand over a file, or to turn out not to be reachable."""
KEPT = 1 << 20
"""Bytes of output that are kept, from its end."""


NOT_COLLECTED = b"What it printed is not collected: cmd.exe, which would, carries no line break."


@dataclass(frozen=True, slots=True)
class Guest:
    """Where a program runs, and as whom."""

    machine: Machine
    login: GuestCredentials

    @property
    def family(self) -> str:
        """GuestInfo.guestFamily; of a guest whose tools do not tell, from what it is configured as."""
        windows = "windowsGuest" if self.machine.guest_id.startswith("win") else ""
        return self.machine.family or windows

    def place(self, link: Link) -> tuple[Any, Any]:
        """The first two arguments of every call."""
        name, password = self.login.username, self.login.password
        login = vim.vm.guest.NamePasswordAuthentication(username=name, password=password, interactiveSession=False)
        return link.vm(self.machine.moid), login


class GuestProgram:
    """A program that runs in a guest."""

    def __init__(self, session: Session, lane: Lane, guest: Guest, started: tuple[int, str]) -> None:
        self._session, self._lane, self._guest = session, lane, guest
        self._pid, self._output = started

    @property
    def pid(self) -> str:
        """The guest's process id."""
        return str(self._pid)

    async def poll(self) -> GuestExit | None:
        """Its end, or None while it runs."""
        call, lane, guest = self._session.call, self._lane, self._guest
        code = await call(lane, exit_code, guest, self._pid)
        if code is None:
            return None
        if not self._output:
            return GuestExit(code, NOT_COLLECTED)
        try:
            output = await call(lane, fetch, guest, self._output)
        except CommandFailed as error:  # how the program ended is known all the same
            output = error.message.encode()
        with suppress(HypervisorError):  # the hook has done its work; the guest's owner finds a small file
            await call(lane, remove, guest, self._output)
        return GuestExit(code, output)


def start(link: Link, guest: Guest, command: Sequence[str]) -> tuple[int, str]:
    """Start a program; returns its process id and the file that its output goes to, empty if none is collected."""
    files, processes = guest_managers(link)
    place = guest.place(link)
    output = ""
    if by_shell(guest.family, command):
        output = str(files.CreateTemporaryFile(*place, "vmpower-", ".out", None))
    try:
        program = for_guest(guest.family, command, output)
        spec = vim.vm.guest.ProcessManager.ProgramSpec(programPath=program.path, arguments=program.arguments)
        return int(processes.StartProgram(*place, spec)), output
    except (CommandFailed, vmodl.MethodFault):
        if output:
            with suppress(vmodl.MethodFault):
                files.DeleteFile(*place, output)
        raise


def exit_code(link: Link, guest: Guest, pid: int) -> int | None:
    """How a program ended; None while it runs.

    Raises:
        CommandFailed: the guest does not know it any more; tools forget one five minutes after its end.
    """
    found = guest_managers(link)[1].ListProcesses(*guest.place(link), [pid])
    if not found:
        raise CommandFailed(f"The guest does not know process {pid} any more: it was restarted, or its tools were.")
    return None if found[0].endTime is None else int(found[0].exitCode)


def fetch(link: Link, guest: Guest, path: str) -> bytes:
    """The end of a file in the guest, from the host that the guest runs on.

    Raises:
        CommandFailed: that host does not hand it over; vCenter may be as well as ever.
    """
    parts = urlsplit(guest_managers(link)[0].InitiateFileTransferFromGuest(*guest.place(link), path).url)
    connection = _connection(link, guest, parts.netloc)
    try:
        return _get(connection, f"{parts.path}?{parts.query}")
    except (OSError, HTTPException) as error:
        raise CommandFailed(
            f"What the program printed cannot be fetched from the host {connection.host} ({type(error).__name__}: "
            f"{error}); the provider's operator sees that it can be reached and is trusted."
        ) from error
    finally:
        connection.close()


def remove(link: Link, guest: Guest, path: str) -> None:
    """Delete a file in the guest."""
    guest_managers(link)[0].DeleteFile(*guest.place(link), path)


def _connection(link: Link, guest: Guest, netloc: str) -> HTTPSConnection:
    """To a host, verified as vCenter is. Its name is * where it is the one that we speak to."""
    ours = urlsplit(link.url)
    host = urlsplit(f"//{netloc}")
    if host.hostname == "*":
        host = ours
    tls = link.tls
    if tls.thumbprint and host.netloc != ours.netloc:
        tls = pinned(_thumbprint(link, guest))
    return HTTPSConnection(host.hostname or "", host.port, timeout=FETCH_SECONDS, context=tls)


def _thumbprint(link: Link, guest: Guest) -> str:
    """Where a thumbprint vouches for vCenter, vCenter vouches for its hosts: it knows their certificates."""
    pem = certificate(link, guest.machine.host)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def _get(connection: HTTPSConnection, target: str) -> bytes:
    connection.request("GET", target)
    response = connection.getresponse()
    if response.status != 200:
        raise HTTPException(f"it answers {response.status} {response.reason}")
    kept = b""
    while more := response.read(KEPT):
        kept = (kept + more)[-KEPT:]
    return kept
