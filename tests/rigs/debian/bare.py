"""A bare system of a release of Debian, in a folder: for what sets itself up.

    with Bare("trixie") as bare:
        copy_tree(bare.root / "vmpower")
        print(bare.run("make -C /vmpower run HYPERVISOR=sim"))

It has what README.md asks for (PACKAGES) and nothing else, and no init. Needs root, or sudo without a password.
"""

import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.rigs.cache import cache
from tests.rigs.debian.system import SUDO, system
from tests.rigs.network import apt_files, go_files, pip_files
from tests.rigs.rig import Rig

ENTER = Path(__file__).with_name("enter.sh")
PACKAGES = ("make", "python3")


class Ran(NamedTuple):
    """What a script printed, on stdout and stderr, its exit code and how many seconds it took."""

    printed: str
    status: int
    seconds: float


class Bare(Rig):
    """`root` is where its files are."""

    def __init__(self, release: str) -> None:
        self.release = release
        self._tarball = system("bare", PACKAGES, release=release)
        self.folder = Path(tempfile.mkdtemp(prefix="vmp-", dir="/tmp"))
        self.root = self.folder / "root"

    def start(self) -> None:
        """Unpack it, and tell it how this machine's network is used."""
        self.root.mkdir()
        subprocess.run([*SUDO, "tar", "-xf", self._tarball, "-C", self.root, "--numeric-owner"], check=True)
        for path, text in (apt_files() | go_files() | pip_files()).items():
            self.write(path, text)
        for path in ("/etc/resolv.conf", "/etc/hosts"):
            self.write(path, Path(path).read_bytes())

    def close(self) -> None:
        """Remove every trace of it; what ran there has ended with `run`."""
        subprocess.run([*SUDO, "rm", "-rf", "--one-file-system", self.folder], check=True)

    def write(self, path: str, text: bytes) -> None:
        """A file of root's there."""
        at = f"{self.root}{path}"
        subprocess.run([*SUDO, "install", "-D", "-m", "644", "/dev/stdin", at], input=text, check=True)

    def add(self, folder: Path, path: str) -> None:
        """Copy a folder there, as root's."""
        subprocess.run([*SUDO, "cp", "-r", folder, f"{self.root}{path}"], check=True)

    def run(self, script: str) -> Ran:
        """What root types into a shell there, until the first command that fails."""
        kept = cache() / "bare-pip"
        kept.mkdir(exist_ok=True)
        began = time.monotonic()
        done = subprocess.run(
            [*SUDO, ENTER, self.root, kept, script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Ran(done.stdout, done.returncode, time.monotonic() - began)
