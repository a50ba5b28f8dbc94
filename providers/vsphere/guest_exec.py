"""Programs in guests, by GuestOperationsManager. No vSphere has an event for their end.

All of it needs a login in the guest. What a program prints goes to a file there, which is fetched when it has ended
and removed. One that is given up on goes on, and its file stays.
"""

import hashlib
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from pyVmomi import vim, vmodl
from yarl import URL

from providers.core.adapter import GuestCredentials, GuestExit
from providers.core.errors import CommandFailed, HypervisorError
from providers.core.lanes import Lane
from providers.shared.http import client
from providers.shared.tls import Verifying, verifying
from providers.vsphere.collector import certificate, guest_managers
from providers.vsphere.properties import VMProperties
from providers.vsphere.quoting import by_shell, for_guest
from providers.vsphere.session import Link, Session, reason

FETCH_TIMEOUT = aiohttp.ClientTimeout(sock_connect=10, sock_read=10)
"""How many seconds a host may take to hand over a file, or to turn out not to be reachable."""
KEPT_BYTES = 1 << 20
"""Bytes of output that are kept, from its end."""
NOT_COLLECTED = b"What it printed is not collected: cmd.exe, which would, carries no line break."


@dataclass(frozen=True, slots=True)
class Guest:
    """Where a program runs, and as whom."""

    vm: VMProperties
    login: GuestCredentials

    @property
    def family(self) -> str:
        """GuestInfo.guestFamily; of a guest whose tools do not tell, from what it is configured as."""
        windows = "windowsGuest" if self.vm.guest_id.startswith("win") else ""
        return self.vm.family or windows

    def target(self, link: Link) -> tuple[Any, Any]:
        """The first two arguments of every call: VM and login."""
        name, password = self.login.username, self.login.password
        login = vim.vm.guest.NamePasswordAuthentication(username=name, password=password, interactiveSession=False)
        return link.vm(self.vm.moid), login


async def poll(session: Session, guest: Guest, pid: int, output_file: str) -> GuestExit | None:
    """A program's end with its output, whose file is then removed; None while it runs."""
    host = guest.vm.host
    code = await session.call(Lane.PROGRAM, exit_code, guest, pid, host=host)
    if code is None:
        return None
    if not output_file:
        return GuestExit(code, NOT_COLLECTED)
    try:
        output = await session.call(Lane.PROGRAM, fetch, guest, output_file, host=host)
    except CommandFailed as error:  # how the program ended is known all the same
        output = error.message.encode()
    with suppress(HypervisorError):  # the hook has done its work; the guest's owner finds a small file
        await session.call(Lane.PROGRAM, remove, guest, output_file, host=host)
    return GuestExit(code, output)


async def start(link: Link, guest: Guest, command: Sequence[str]) -> tuple[int, str]:
    """Start a program; returns its process id and the file that its output goes to, empty if none is collected."""
    files, processes = await guest_managers(link)
    target = guest.target(link)
    output = ""
    if by_shell(guest.family, command):
        output = str(await files.CreateTemporaryFile(*target, "vmpower-", ".out", None))
    try:
        program = for_guest(guest.family, command, output)
        spec = vim.vm.guest.ProcessManager.ProgramSpec(programPath=program.path, arguments=program.arguments)
        return int(await processes.StartProgram(*target, spec)), output
    except (CommandFailed, vmodl.MethodFault):
        if output:
            with suppress(vmodl.MethodFault):
                await files.DeleteFile(*target, output)
        raise


async def exit_code(link: Link, guest: Guest, pid: int) -> int | None:
    """How a program ended; None while it runs.

    Raises:
        CommandFailed: the guest does not know it any more; tools forget one five minutes after its end.
    """
    _, processes = await guest_managers(link)
    found = await processes.ListProcesses(*guest.target(link), [pid])
    if not found:
        raise CommandFailed(f"The guest does not know process {pid} any more: it was restarted, or its tools were.")
    return None if found[0].endTime is None else int(found[0].exitCode)


async def fetch(link: Link, guest: Guest, path: str) -> bytes:
    """The end of a file in the guest, from the host that the guest runs on.

    Raises:
        CommandFailed: that host does not hand it over; vCenter may be as well as ever.
    """
    files, _ = await guest_managers(link)
    offered = urlsplit((await files.InitiateFileTransferFromGuest(*guest.target(link), path)).url)
    if offered.hostname == "*":  # the one that we speak to
        offered = offered._replace(netloc=urlsplit(link.url).netloc)
    tls = await _verifying(link, guest, offered.netloc)
    try:
        return await _get(tls, offered.geturl())
    except (OSError, aiohttp.ClientError) as error:
        raise CommandFailed(
            f"What the program printed cannot be fetched from the host {offered.hostname} ({reason(error)}); the "
            f"provider's operator sees that it can be reached and is trusted."
        ) from error


async def remove(link: Link, guest: Guest, path: str) -> None:
    files, _ = await guest_managers(link)
    await files.DeleteFile(*guest.target(link), path)


async def _verifying(link: Link, guest: Guest, netloc: str) -> Verifying:
    """A host is trusted as vCenter is: by the CA, or, where vCenter is pinned, by the certificate that vCenter has of
    the host."""
    trust = link.trust
    if trust.pins and netloc != urlsplit(link.url).netloc:
        pem = await certificate(link, guest.vm.host)
        trust = replace(trust, pins=(hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest(),))
    return verifying(trust)


async def _get(tls: Verifying, url: str) -> bytes:
    kept = b""
    async with (
        client() as http,
        http.get(URL(url, encoded=True), ssl=tls, timeout=FETCH_TIMEOUT, allow_redirects=False) as response,
    ):
        if response.status != HTTPStatus.OK:
            raise ConnectionError(f"it answers {response.status} {response.reason}")
        async for more in response.content.iter_any():
            kept = (kept + more)[-KEPT_BYTES:]
    return kept
