"""A site with one UPS: a real upsd with Debian's dummy-ups and, where wanted, the primary's upsmon. On loopback, with
all files in a folder of its own.

    with Site() as site:
        site.says("OB DISCHRG")
        site.upsd.kill()

All calls block.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_pem_x509_certificate

from tests.rigs.nut.programs import libraries, program
from tests.rigs.polling import poll
from tests.rigs.ports import free_port
from tests.rigs.process import Process
from tests.rigs.rig import Rig

HOST_SYNC = 30
"""Seconds for which the primary waits for us."""
USERS = """
[vmpower]
    password = "se cret"
    upsmon secondary
[primary]
    password = primary
    upsmon primary
"""


class Site(Rig):
    """`monitored`: the primary's upsmon runs, and its SHUTDOWNCMD makes the file `shut_down`. `tls`: upsd has a
    certificate by the authority in the file `ca`."""

    def __init__(self, *, monitored: bool = False, tls: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vmp-", dir="/tmp"))
        self.port = free_port()
        self.ups = f"dummy@127.0.0.1:{self.port}"
        self.password_file = self.folder / "password"
        self.shut_down = self.folder / "shut-down"
        self.ca = self.folder / "ca.pem"
        self._monitored, self._tls = monitored, tls
        self._battery, self._changes = {"charge": 100, "runtime": 3600}, 0
        self._write_all()
        if tls:
            self._certify()
        environment = {
            "LD_LIBRARY_PATH": libraries(),
            "NUT_CONFPATH": str(self.folder),
            "NUT_STATEPATH": str(self.folder),
            "NUT_ALTPIDPATH": str(self.folder),
        }
        commands = {
            "dummy-ups": ["-a", "dummy", "-u", "root", "-D"],
            "upsd": ["-u", "root", "-D"],
            "upsmon": ["-p", "-u", "root", "-D"],
        }
        self.driver, self.upsd, self.upsmon = (
            Process([str(program(name)), *words], self.folder / f"{name}.log", environment)
            for name, words in commands.items()
        )

    def start(self) -> None:
        """Returns when upsd knows the UPS."""
        self.driver.start()
        self.upsd.start()
        self.says("OL")
        if self._monitored:
            self.upsmon.start()
            poll(lambda: self.logins() == 1)

    def close(self) -> None:
        """Kill all, and remove the folder."""
        for process in (self.upsmon, self.upsd, self.driver):
            if process.runs():
                process.kill()
        shutil.rmtree(self.folder)

    def says(self, status: str, **battery: int) -> None:
        """The UPS's status and values of its battery; returns when upsd tells so."""
        self._battery |= battery
        lines = [f"ups.status: {status}", *(f"battery.{name}: {value}" for name, value in self._battery.items())]
        self._write("dummy.dev", "\n".join(lines) + "\n")
        self._changes += 1
        os.utime(self.folder / "dummy.dev", (self._changes, self._changes))  # the driver looks at whole seconds
        poll(lambda: status.split() == [word for word in self._status().split() if word != "FSD"])

    def logins(self) -> int:
        """How many are logged in to the UPS."""
        return int(self._ask("GET NUMLOGINS dummy").split()[-1])

    def _status(self) -> str:
        """Empty while it cannot be read."""
        try:
            answer = self._ask("GET VAR dummy ups.status")
        except OSError:
            return ""
        return "" if answer.startswith("ERR") else answer.split('"')[1]

    def _ask(self, line: str) -> str:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection, connection.makefile() as file:
            connection.sendall(f"{line}\n".encode())
            return file.readline().strip()

    def _write(self, name: str, text: str) -> None:
        """In one step, so that no half is read."""
        new = self.folder / f".{name}"
        new.write_text(text)
        new.chmod(0o600)
        new.rename(self.folder / name)

    def _certify(self) -> None:
        """A database of NSS with upsd's certificate: Debian's upsd is built with NSS."""
        authority, database, secret = trustme.CA(), self.folder / "certificates", self.folder / "database-password"
        authority.cert_pem.write_to_path(self.ca)
        issued = authority.issue_cert("127.0.0.1")
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        assert isinstance(key, EllipticCurvePrivateKey)
        certificate = load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
        both = self.folder / "upsd.p12"
        both.write_bytes(
            serialize_key_and_certificates(b"upsd", key, certificate, None, BestAvailableEncryption(b"secret"))
        )
        database.mkdir()
        secret.write_text("secret\n")
        _run(program("certutil"), "-N", "-d", database, "-f", secret)
        _run(program("pk12util"), "-i", both, "-d", database, "-k", secret, "-W", "secret")

    def _write_all(self) -> None:
        certified = f"CERTPATH {self.folder}/certificates\nCERTIDENT upsd secret\n"
        files = {
            "ups.conf": "pollinterval = 1\n[dummy]\n  driver = dummy-ups\n  port = dummy.dev\n  mode = dummy-once\n",
            "dummy.dev": "ups.status: OL\n",
            "upsd.conf": f"LISTEN 127.0.0.1 {self.port}\nSTATEPATH {self.folder}\n" + (certified if self._tls else ""),
            "upsd.users": USERS,
            "upsmon.conf": f"MONITOR {self.ups} 1 primary primary primary\n"
            f'SHUTDOWNCMD "touch {self.shut_down}"\nPOWERDOWNFLAG {self.folder}/killpower\n'
            f"HOSTSYNC {HOST_SYNC}\nPOLLFREQ 1\nPOLLFREQALERT 1\nFINALDELAY 0\nNOTIFYFLAG ONBATT IGNORE\n",
            "password": "se cret\n",
        }
        for name, text in files.items():
            self._write(name, text)


def _run(*command: str | Path) -> None:
    environment = os.environ | {"LD_LIBRARY_PATH": libraries()}
    subprocess.run(command, check=True, capture_output=True, env=environment)
