"""A small Debian (or Ubuntu, as this machine is) of its own, booted with its own systemd: for what is installed.

    with Machine() as machine:
        machine.run("apt-get install -y /run/host/vmpower.deb")
        machine.run("systemctl start vmpower-provider@sim")

`folder` is the machine's /run/host. It has no network. It lives in memory, and needs root, or sudo without a password.
"""

import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.rigs.debian.system import SUDO, system
from tests.rigs.rig import Rig

HERE = Path(__file__).parent
BOOT_TIMEOUT = 60


def tarball() -> Path:
    """The machine's system, made once; that takes a network."""
    listed = (HERE / "packages.txt").read_text().splitlines()
    return system("debian", [line for line in listed if not line.startswith("#")])


class Machine(Rig):
    """Boots; `run` is what root types there."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vmp-", dir="/tmp"))
        self.folder.chmod(0o755)
        self._process: subprocess.Popen[bytes] | None = None
        self._first = 0

    def start(self) -> None:
        """Boot, and return when systemd says that it has.

        Raises:
            TimeoutError: it has not.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(str(self.folder / "notify"))
            notified.settimeout(BOOT_TIMEOUT)
            self._process = subprocess.Popen(
                [*SUDO, HERE / "boot.sh", tarball(), self.folder], start_new_session=True, stdin=subprocess.DEVNULL
            )
            while b"READY=1" not in notified.recv(4096).split(b"\n"):
                pass
        self._first = self._first_process(self._process.pid)

    def run(self, script: str, *, check: bool = True, user: str = "") -> subprocess.CompletedProcess[str]:
        """Type a shell script, as root or as a user with his groups; stdout and stderr come together in `stdout`.

        Raises:
            AssertionError: it failed, and was not to; the message has what it printed.
        """
        typed = ["runuser", "-u", user, "--", "bash", "-c", script] if user else ["bash", "-c", script]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        command = ["env", "-i", "--chdir=/", *(f"{name}={value}" for name, value in environment.items()), *typed]
        done = subprocess.run(
            [*SUDO, "nsenter", "--target", str(self._first), "--all", "--root", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{script}\n{done.stdout}"
        return done

    def shut_down(self, timeout: float = 60) -> None:
        """Shut it down in order, as `poweroff` does, and wait until it has.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        assert self._process
        self.run("systemctl --no-block poweroff")
        self._process.wait(timeout)

    def close(self) -> None:
        """End all that runs there, and remove every trace of it."""
        if self._process:
            if self._process.poll() is None:
                subprocess.run([*SUDO, "kill", "-9", str(self._first or self._process.pid)], check=False)
            self._process.wait()
            group = (self.folder / "group").read_text().strip()
            subprocess.run([*SUDO, "find", group, "-depth", "-type", "d", "-delete"], check=False)
        shutil.rmtree(self.folder)

    @staticmethod
    def _first_process(starter: int) -> int:
        """Its systemd, as seen from here: the last of the only children."""
        children = Path(f"/proc/{starter}/task/{starter}/children").read_text().split()
        return Machine._first_process(int(children[0])) if children and not _is_first(starter) else starter


def _is_first(pid: int) -> bool:
    """Whether a process is the first one of a namespace of its own."""
    return Path(f"/proc/{pid}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()


if __name__ == "__main__":
    print(tarball())
