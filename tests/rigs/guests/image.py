"""The rig's guest: a kernel and an initramfs, built on first use and kept outside the tree."""

import fcntl
import subprocess
from pathlib import Path

from tests.rigs.grpcurl import cache

BUILD = Path(__file__).parent / "build.sh"


def image() -> Path:
    """The directory of `vmlinuz` and `initrd.gz`; the first call builds them, which takes some seconds."""
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".guests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = subprocess.run([BUILD, folder], stdout=subprocess.PIPE, text=True, check=True)
    return Path(built.stdout.strip())


if __name__ == "__main__":
    print(image())
