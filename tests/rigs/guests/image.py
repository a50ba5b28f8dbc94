"""The rig's guest: a kernel and an initramfs, built on first use and kept outside the tree."""

import subprocess
from pathlib import Path

from tests.rigs.cache import locked

BUILD = Path(__file__).parent / "build.sh"


def image() -> Path:
    """The directory of `vmlinuz` and `initrd.gz`; the first call builds them, which takes some seconds."""
    with locked("guests") as cache:
        built = subprocess.run([BUILD, cache], stdout=subprocess.PIPE, text=True, check=True)
    return Path(built.stdout.strip())


if __name__ == "__main__":
    print(image())
