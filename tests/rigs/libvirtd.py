"""A libvirtd of our own with real guests: an ordinary user's, in one directory. It never touches the machine's.

    with Libvirtd() as rig:
        rig.define(Guest("web", shutdown_delay=2), start=True)
        rig.wait_ready("web")
        libvirt.open(rig.uri).lookupByName("web").shutdown()
        rig.wait_console("web", "guest web: powering off")

Libvirtd says when it is up, as it says it to systemd, and what guests and libvirtd write is watched; only a job's
begin is polled for. Nothing uses libvirt's event loop either, so that the code under test can have it. All calls block.
"""

import contextlib
import os
import pwd
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import libvirt

from tests.rigs.guests.domain import AGENT_PORT, Guest
from tests.rigs.guests.image import image
from tests.rigs.polling import poll
from tests.rigs.process import as_user, pidfd
from tests.rigs.rig import Rig
from tests.rigs.watching import wait_for_change

QEMU_CONF = """
# Without virtlogd, QEMU writes its own logs.
stdio_handler = "file"
security_driver = "none"
"""
STOPPED = re.compile(r"^(\S+ \S+): shutting down, reason=(\w+)$", re.MULTILINE)


class Stop(NamedTuple):
    """libvirt's own record of a guest's end: when, to a millisecond, and why (shutdown, destroyed, crashed)."""

    time: datetime
    reason: str


class Libvirtd(Rig):
    """One libvirtd and its guests. It may be stopped or killed and started again; `close` ends it all.

    `uri` is for any client of the same user, or root; `folder` has all it ever writes.
    """

    def __init__(self) -> None:
        parts = image()
        # Unix sockets have short names (108 bytes) and libvirt makes long ones, so not below a long TMPDIR.
        self.folder = Path(tempfile.mkdtemp(prefix="vmp-", dir="/tmp"))
        self.log = self.folder / "libvirtd.log"
        self.uri = f"qemu+unix:///session?socket={self.folder}/run/libvirt/libvirt-sock"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._prepare(parts)

    # The daemon

    def start(self) -> None:
        """Start libvirtd and wait until it takes calls."""
        owner = _owner()
        with self.log.open("ab") as log:
            self._daemon = subprocess.Popen(
                as_user(owner.pw_uid, owner.pw_gid, ["libvirtd"]),
                env=self._environment(),
                cwd=self.folder,
                stderr=log,
                start_new_session=True,  # Ctrl-C ends the tests, and they end this
            )
        with pidfd(self._daemon.pid) as ended:
            ready, _, _ = select.select([self._notify.fileno(), ended], [], [], 30)
        if self._notify.fileno() not in ready:
            raise RuntimeError(f"libvirtd did not start:\n{self.log.read_text()}")
        self._notify.recv(4096)

    def stop(self) -> None:
        """Stop libvirtd as its administrator would. Its guests go on."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill libvirtd. Its guests go on."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop libvirtd and start it again. Its guests go on, and every connection is lost."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End libvirtd and all guests, and remove every trace of them."""
        self.stop()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(ProcessLookupError):
                self._kill_if_ours(int(process.name))
        self._notify.close()
        shutil.rmtree(self.folder)

    # The guests

    def define(self, guest: Guest, *, start: bool = False, transient: bool = False) -> str:
        """Define a guest and return its UUID. A transient one is gone when it is off, so it starts at once."""
        if guest.disk:
            self._make_disk(guest.name)
        with self.connect() as connection:
            xml = guest.xml(self.folder)
            domain = connection.createXML(xml) if transient else connection.defineXML(xml)
            if start and not transient:
                domain.create()
            return str(domain.UUIDString())

    def boot(self, guests: Sequence[Guest]) -> None:
        """Define and start guests; return when all of them are ready."""
        for guest in guests:
            self.define(guest, start=True)
        for guest in guests:
            self.wait_ready(guest.name)

    @contextlib.contextmanager
    def connect(self) -> Iterator[Any]:
        """A connection of its own: whatever a test breaks, this one is new."""
        connection = libvirt.open(self.uri)
        try:
            yield connection
        finally:
            connection.close()

    def migrate(self, name: str, to: "Libvirtd", *, mib_per_second: int = 1024) -> None:
        """Migrate a running guest live to another rig, and keep its definition in both; return when it has moved.

        Raises:
            libvirt.libvirtError: it has not.
        """
        flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNSAFE
        params = {
            libvirt.VIR_MIGRATE_PARAM_URI: f"unix://{to.folder}/run/migration-{name}",
            libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: mib_per_second,
        }
        with self.connect() as here, to.connect() as there:
            here.lookupByName(name).migrate3(there, params, flags)

    def wait_job(self, name: str) -> None:
        """Wait until a job is under way on a running guest."""
        with self.connect() as connection:
            domain = connection.lookupByName(name)
            poll(lambda: domain.jobStats()["type"] != libvirt.VIR_DOMAIN_JOB_NONE)

    def console(self, name: str) -> str:
        """All that a guest has printed since it was defined, over all its starts."""
        path = self.folder / "console" / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_console(self, name: str, line: str, *, times: int = 1, timeout: float = 60) -> None:
        """Wait until a guest has printed `line` (a part of one will do) so many times.

        Raises:
            TimeoutError: it has not; the message has all that it did print.
        """
        wait_for_change(
            self.folder / "console",
            lambda: self.console(name).count(line) >= times,
            lambda: f"guest {name} printed {line!r} less than {times} times:\n{self.console(name)}",
            timeout,
        )

    def wait_ready(self, name: str, *, boot: int = 1, timeout: float = 60) -> None:
        """Wait until a guest is up with all its signals, and libvirt knows its agent.

        `boot` counts its starts since it was defined.
        """
        self.wait_console(name, f"guest {name}: ready", times=boot, timeout=timeout)
        status = self._status(name)
        if f"name='{AGENT_PORT}'" in status.read_text():
            heard = f"name='{AGENT_PORT}' state='connected'"
            wait_for_change(
                status.parent,
                lambda: heard in status.read_text(),
                lambda: f"libvirt sees no agent in guest {name}",
                timeout,
            )

    def pid(self, name: str) -> int:
        """The process of a running guest, to do it harm."""
        return int(self._status(name).with_suffix(".pid").read_text())

    def wait_stop(self, name: str, *, timeout: float = 60) -> Stop:
        """Wait until libvirt has seen a guest's last start end, and return its own record of that.

        A session libvirtd begins the record anew at each start. The end of a guest that libvirtd was not there
        to see is not recorded.
        """
        log = self.folder / "cache" / "libvirt" / "qemu" / "log" / f"{name}.log"
        wait_for_change(
            log.parent,
            lambda: bool(STOPPED.search(log.read_text())),
            lambda: f"libvirt did not see guest {name} stop:\n{log.read_text()}",
            timeout,
        )
        when, reason = STOPPED.findall(log.read_text())[-1]
        return Stop(datetime.strptime(when, "%Y-%m-%d %H:%M:%S.%f%z"), reason)

    # Inside

    def _prepare(self, parts: Path) -> None:
        for name in ("run", "config/libvirt", "cache", "data", "state", "console"):
            (self.folder / name).mkdir(parents=True)
        config = self.folder / "config" / "libvirt"
        (config / "qemu.conf").write_text(QEMU_CONF)
        # No guest is migrated from a host to itself, which is what a UUID is for.
        (config / "libvirtd.conf").write_text(f'host_uuid = "{uuid.uuid4()}"\n')
        for part in parts.iterdir():
            shutil.copy(part, self.folder)  # the cache may lie where an ordinary user cannot read
        self._notify.bind(str(self.folder / "notify"))
        self._give(self.folder, *self.folder.rglob("*"))

    def _environment(self) -> dict[str, str]:
        places = {f"XDG_{name}_HOME": name.lower() for name in ("CONFIG", "CACHE", "DATA", "STATE")}
        places |= {"XDG_RUNTIME_DIR": "run", "HOME": "", "TMPDIR": "", "NOTIFY_SOCKET": "notify"}
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"  # where Debian keeps libvirtd, and not all users look
        return {name: str(self.folder / place) for name, place in places.items()} | {"PATH": path}

    def _give(self, *paths: Path) -> None:
        owner = _owner()
        for path in paths if os.geteuid() == 0 else ():
            os.chown(path, owner.pw_uid, owner.pw_gid)

    def _make_disk(self, name: str) -> None:
        path = self.folder / f"{name}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "16M"], check=True)
        self._give(path)

    def _status(self, name: str) -> Path:
        return self.folder / "run" / "libvirt" / "qemu" / "run" / f"{name}.xml"

    def _end(self, how: signal.Signals) -> None:
        if self._daemon:
            self._daemon.send_signal(how)
            self._daemon.wait(30)
            self._daemon = None

    def _kill_if_ours(self, pid: int) -> None:
        # A guest is no child of ours; its command line has our directory, and no other process's has.
        with pidfd(pid) as process:
            if os.fsencode(self.folder) in Path(f"/proc/{pid}/cmdline").read_bytes():
                signal.pidfd_send_signal(process, signal.SIGKILL)
                select.select([process], [], [], 30)


def _owner() -> pwd.struct_passwd:
    """The user that libvirtd runs as, where the tests are root's: as root it would be the system libvirtd."""
    return pwd.getpwnam("nobody")
