"""Small systems as tarballs, each made once: the smallest Debian (or Ubuntu, as this machine is) with some packages, of
this machine's release or of another one of Debian.

The packages come from where apt has them from on this machine, by mmdebstrap: debootstrap would have to be told a
mirror, and goes past apt's own configuration. Needs package lists (apt-get update), and root, or sudo without a
password.
"""

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.rigs.cache import cache, locked

SUDO = [] if os.geteuid() == 0 else ["sudo", "-n"]
LISTED = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"


def system(
    name: str, packages: Sequence[str] = (), *, release: str = "", files: Mapping[str, bytes] | None = None
) -> Path:
    """The tarball NAME-HASH.tar in the cache. `release`: a code name of Debian's, else this machine's own; `files` by
    their paths.

    Raises:
        RuntimeError: apt knows no packages of a distribution.
        subprocess.CalledProcessError: it cannot be made; what mmdebstrap says of it is on stderr.
    """
    sources = _sources(release)
    own = [Path(__file__).read_text(), sources, platform.machine()]
    parts = [*own, *packages, *(f"{path} {text!r}" for path, text in (files or {}).items())]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
    tarball = cache() / f"{name}-{digest}.tar"
    with locked(tarball.stem):
        if not tarball.exists():
            print(f"making {tarball.stem}: once", file=sys.stderr, flush=True)
            _make(tarball, release or _own_release(), sources, packages, files or {})
    return tarball


def _make(tarball: Path, release: str, sources: str, packages: Sequence[str], files: Mapping[str, bytes]) -> None:
    with tempfile.TemporaryDirectory(prefix="building-", dir=cache()) as folder:
        work = Path(folder)
        (work / "sources.list").write_text(sources)
        (work / "files").mkdir()
        for path, text in files.items():
            (work / "files" / path).parent.mkdir(parents=True, exist_ok=True)
            (work / "files" / path).write_bytes(text)
        copied = f'cp -R {work}/files/. "$1"'
        chosen = [f"--include={','.join(packages)}"] if packages else []
        what = ["--variant=minbase", *chosen, f"--customize-hook={copied}", release, f"{work}/root.tar"]
        subprocess.run([*SUDO, "mmdebstrap", "--quiet", *what, f"{work}/sources.list"], stdout=sys.stderr, check=True)
        (work / "root.tar").replace(tarball)


def _sources(release: str) -> str:
    """Lines for sources.list: where apt has the distribution's own packages from, told of this release."""
    own = _own_release()
    lines = [
        line.replace(f" {own}", f" {release or own}")
        for origin in (["Debian"] if release else ["Debian", "Ubuntu"])
        for line in _printed("apt-get", "indextargets", "--format", LISTED, "Created-By: Packages", f"Origin: {origin}")
        if line.split()[2].partition("-")[0] == own
    ]
    if not lines:
        raise RuntimeError(f"apt knows no packages of {release or own}'s distribution; run apt-get update")
    return "".join(f"{line}\n" for line in lines)


def _own_release() -> str:
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def _printed(*command: str) -> list[str]:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
