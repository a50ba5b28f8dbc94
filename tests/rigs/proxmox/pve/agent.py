"""The QEMU guest agent: programs really run (PVE::API2::Qemu::Agent, PVE::QemuServer::Agent, PVE::QMPClient, qga).

fakepve notes programs and runs none. Here each runs as it is asked for, without a shell, in a folder of its guest.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fakepve.model import PveError

from tests.rigs.proxmox.pve.datacenter import Datacenter
from tests.rigs.proxmox.pve.guests import Guest
from tests.rigs.proxmox.pve.tasks import Routes

PING = 3  # seconds for an answer to a ping, which comes before every command (assert_agent_available)
COMMAND = 5  # seconds for an answer to most commands (PVE::QMPClient)


class Agent:
    """The calls below agent/ that have to do with programs and power; fakepve answers the others."""

    def __init__(self, datacenter: Datacenter, folder: Path) -> None:
        self._dc = datacenter
        self._folder = folder
        self._pids = iter(range(1001, 1 << 30))
        self._running = dict[tuple[int, int], "Program"]()
        datacenter.gone.append(self._forget)

    def routes(self) -> Routes:
        """The calls that are answered here."""
        agent = "/nodes/{node}/qemu/{vmid}/agent/"
        return {
            ("POST", agent + "ping"): self._ping,
            ("POST", agent + "shutdown"): self._shutdown,
            ("POST", agent + "exec"): self._exec,
            ("GET", agent + "exec-status"): self._exec_status,
            ("GET", agent + "network-get-interfaces"): self._interfaces,
        }

    async def _ping(self, v: Mapping[str, Any], _user: str) -> dict[str, Any]:
        await self._available(v)
        return {"result": {}}

    async def _shutdown(self, v: Mapping[str, Any], _user: str) -> dict[str, Any]:
        guest = await self._available(v)
        await self._answers(guest, "shutdown")
        guest.hear("agent")
        return {"result": None}

    async def _exec(self, v: Mapping[str, Any], _user: str) -> dict[str, int]:
        guest = await self._available(v)
        argv, given = [_received(guest, word) for word in v["command"]], _octets(v.get("input-data"))
        await self._answers(guest, "exec")
        pid = next(self._pids)
        home = self._folder / str(guest.vmid)
        home.mkdir(parents=True, exist_ok=True)
        program = Program(guest.behaviour["agent_output"])
        shown = {"pid": pid, "argv": argv, "input": v.get("input-data"), "started_at": time.time(), "exitcode": None}
        try:
            await program.start(argv, given, home, shown)
        except OSError as error:
            why = f"Failed to execute child process “{argv[0]}” ({error.strerror})"
            raise PveError(500, f"Agent error: {why}") from None
        guest.execs.append(shown)
        self._running[guest.vmid, pid] = program
        return {"pid": pid}

    async def _exec_status(self, v: Mapping[str, Any], _user: str) -> dict[str, Any]:
        """qga forgets a program as soon as it has told its end."""
        guest = await self._available(v)
        await self._answers(guest, "exec-status")
        program = self._running.get((guest.vmid, v["pid"]))
        if program is None:
            raise PveError(500, f"Agent error: PID {v['pid']} does not exist")
        if not program.ended:
            return {"exited": 0}
        del self._running[guest.vmid, v["pid"]]
        return program.status()

    async def _interfaces(self, v: Mapping[str, Any], _user: str) -> dict[str, Any]:
        """guest-network-get-interfaces of qga, as pve hands it on."""
        await self._answers(await self._available(v), "network-get-interfaces")
        rows = [
            ("lo", "127.0.0.1", "ipv4", 8),
            ("ens18", "192.0.2.10", "ipv4", 24),
            ("ens18", "2001:db8::10", "ipv6", 64),
        ]
        told = dict[str, list[dict[str, Any]]]()
        for name, address, kind, prefix in rows:
            entry = {"ip-address": address, "ip-address-type": kind, "prefix": prefix}
            told.setdefault(name, []).append(entry)
        return {"result": [{"name": name, "ip-addresses": entries} for name, entries in told.items()]}

    async def _available(self, v: Mapping[str, Any]) -> Guest:
        """assert_agent_available: the config, the power and a ping, in this order."""
        guest = self._dc.of("qemu", v)
        if "agent" not in guest.fake.config:
            raise PveError(500, "No QEMU guest agent configured")
        if not guest.running:
            raise PveError(500, f"VM {guest.vmid} is not running")
        if not guest.agent_pings:
            await self._dc.pause(PING)
            raise PveError(500, "QEMU guest agent is not running")
        return guest

    async def _answers(self, guest: Guest, command: str) -> None:
        if not guest.agent_hears:
            await self._dc.pause(COMMAND)
            raise PveError(500, f"VM {guest.vmid} qga command 'guest-{command}' failed - got timeout")

    def close(self) -> None:
        """End all programs."""
        for program in self._running.values():
            program.kill()

    def _forget(self, guest: Guest) -> None:
        """Its power is off."""
        for key in [key for key in self._running if key[0] == guest.vmid]:
            self._running.pop(key).kill()


class Program:
    """One that runs in a guest. `limit` bytes of each of its outputs are kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._process: asyncio.subprocess.Process | None = None
        self._outputs: tuple[bytes, bytes] | None = None

    @property
    def ended(self) -> bool:
        return self._outputs is not None

    async def start(self, argv: list[str], given: bytes | None, home: Path, shown: dict[str, Any]) -> None:
        """Start it. `shown` learns how it ended."""
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=home,
            stdin=nothing if given is None else pipe,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
        )
        self._follower = asyncio.create_task(self._follow(self._process, given, shown))

    async def _follow(self, process: asyncio.subprocess.Process, given: bytes | None, shown: dict[str, Any]) -> None:
        self._outputs = await process.communicate(given)
        shown |= {"exitcode": process.returncode, "ended_at": time.time()}

    def kill(self) -> None:
        """As when the power goes: with all that it started."""
        if self._process and not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def status(self) -> dict[str, Any]:
        """What exec-status says of one that has ended; an output that is empty is not there."""
        if self._process is None or self._process.returncode is None or self._outputs is None:
            raise RuntimeError("it has not ended")
        code = self._process.returncode
        said: dict[str, Any] = {"exited": 1} | ({"exitcode": code} if code >= 0 else {"signal": -code})
        for name, output in zip(("out", "err"), self._outputs, strict=True):
            if output:
                # PVE decodes base64 and lets JSON encode the octets as if each were a character.
                said[f"{name}-data"] = output[: self._limit].decode("latin-1")
            if len(output) > self._limit:
                said[f"{name}-truncated"] = 1
        return said


def _octets(text: str | None) -> bytes | None:
    """Perl's encode_base64 takes characters as octets, and dies of one that is none."""
    try:
        return None if text is None else text.encode("latin-1")
    except UnicodeEncodeError:
        raise PveError(500, "Wide character in subroutine entry at /usr/share/perl5/PVE/QemuServer/Agent.pm.") from None


def _received(guest: Guest, word: str) -> str:
    """PVE::QMPClient writes JSON text without encoding it: each character is a byte, and the bytes must be UTF-8.

    Read in the source (to_json without utf8, then syswrite), not measured on a PVE.
    """
    try:
        return word.encode("latin-1").decode()
    except UnicodeEncodeError:
        wide = "Wide character in syswrite at /usr/share/perl5/IO/Multiplex.pm."
        raise PveError(500, f"VM {guest.vmid} qga command 'guest-exec' failed - {wide}") from None
    except UnicodeDecodeError:
        raise PveError(500, "Agent error: JSON parse error, invalid UTF-8 sequence in string") from None
