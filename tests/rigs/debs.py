"""Programs of Debian's packages, unpacked in the cache and never installed: nothing is started or replaced."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.rigs.cache import locked


def programs(name: str, *packages: str) -> Path:
    """The cache's folder `name` with the programs of these packages; the first call fetches them."""
    with locked(name) as cache:
        folder = cache / "bin" / name
        if not folder.exists():
            _fetch(folder, packages)
    return folder


def _fetch(folder: Path, packages: tuple[str, ...]) -> None:
    print(f"fetching {', '.join(packages)}: once", file=sys.stderr, flush=True)
    new = folder.with_suffix(".half")
    sudo = ["sudo"] if os.geteuid() else []
    subprocess.run([*sudo, "apt-get", "-qq", "update"], check=True)  # packages.sh reads the lists only for its own sake
    with tempfile.TemporaryDirectory() as half:
        subprocess.run(["apt-get", "-qq", "download", *packages], cwd=half, check=True, stderr=subprocess.DEVNULL)
        for package in Path(half).glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", str(package), f"{half}/tree"], check=True)
        new.mkdir(parents=True, exist_ok=True)
        for file in Path(half, "tree", "usr").glob("*bin/*"):
            if not file.is_symlink():
                shutil.copy(file, new)
    new.rename(folder)
