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


def unpacked(name: str, *packages: str) -> Path:
    """The cache's folder `name` with all that is in these packages, as it would lie in `/`."""
    with locked(name) as cache:
        folder = cache / "debs" / name
        if not folder.exists():
            new = folder.with_suffix(".half")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            with tempfile.TemporaryDirectory() as half:
                _download(Path(half), packages)
                for package in Path(half).glob("*.deb"):
                    subprocess.run(["dpkg-deb", "--extract", str(package), str(new)], check=True)
            new.rename(folder)
    return folder


def _download(folder: Path, packages: tuple[str, ...]) -> None:
    print(f"fetching {', '.join(packages)}: once", file=sys.stderr, flush=True)
    sudo = ["sudo"] if os.geteuid() else []
    subprocess.run([*sudo, "apt-get", "-qq", "update"], check=True)  # packages.sh reads the lists only for its own sake
    subprocess.run(["apt-get", "-qq", "download", *packages], cwd=folder, check=True, stderr=subprocess.DEVNULL)


def _fetch(folder: Path, packages: tuple[str, ...]) -> None:
    new = folder.with_suffix(".half")
    with tempfile.TemporaryDirectory() as half:
        _download(Path(half), packages)
        for package in Path(half).glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", str(package), f"{half}/tree"], check=True)
        new.mkdir(parents=True, exist_ok=True)
        for file in Path(half, "tree", "usr").glob("*bin/*"):
            if not file.is_symlink():
                shutil.copy(file, new)
    new.rename(folder)
