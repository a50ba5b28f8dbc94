"""A container engine of our own: Debian's dockerd with Docker Compose, in the cache and never installed.

    with Engine() as engine:
        engine.docker("build", "--tag", IMAGE, ".")
        engine.shell("docker compose up --detach")

It touches no other engine of the machine. Images and the builder's cache outlive it, containers do not. It needs root.
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.rigs import debs
from tests.rigs.cache import cache, locked
from tests.rigs.debian.system import system
from tests.rigs.go import install
from tests.rigs.network import pip_files
from tests.rigs.polling import poll
from tests.rigs.process import ROOT, Process
from tests.rigs.rig import Rig

HERE = Path(__file__).parent
PACKAGES = ("docker.io", "containerd", "runc")
COMPOSE = "github.com/docker/compose/v2"
BASE = "vmpower-base:tests"


def programs() -> Path:
    """The folder of `docker`, `dockerd` and what they need; the first call fetches them."""
    return debs.programs("docker", *PACKAGES)


def compose() -> Path:
    """The plugin `docker compose`; the first call builds it, in some minutes."""
    found = re.search(rf"{re.escape(COMPOSE)} (v\S+)", (HERE / "tools" / "go.mod").read_text())
    assert found
    version = found[1]
    flags = f"-s -w -X {COMPOSE}/internal.Version={version}"
    return install(f"compose-{version}", [f"{COMPOSE}/cmd"], module=HERE / "tools", ldflags=flags) / "cmd"


def base() -> Path:
    """A tarball of the system that images are built from, where no image registry is in reach; the first call makes it.
    pip looks for packages there as it does here."""
    files = {name.removeprefix("/"): text for name, text in pip_files().items()}
    files["etc/dpkg/dpkg.cfg.d/image"] = b"force-unsafe-io\n"  # as in the usual base images
    return system("base", files=files)


class Engine(Process, Rig):
    """One dockerd. `close` ends its containers and itself; the next one has its images."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vmp-", dir="/tmp"))
        self._own = contextlib.ExitStack()
        self._socket = self.folder / "docker.sock"
        (self.folder / "daemon.json").write_text("{}")
        flags = {
            "config-file": self.folder / "daemon.json",
            "data-root": cache() / "engine",
            "exec-root": self.folder / "exec",
            "pidfile": self.folder / "pid",
            "host": f"unix://{self._socket}",
            "bridge": "none",  # networks of compose files have bridges of their own
            "iptables": "false",  # the machine's own rules stay as they are
            "ip6tables": "false",
        }
        command = [str(programs() / "dockerd"), *(f"--{name}={value}" for name, value in flags.items())]
        super().__init__(command, self.folder / "log", self._environment())

    def start(self) -> None:
        """Start it, and return when it answers; of an earlier one only images are left, and the base is among them.

        Raises:
            TimeoutError: it does not answer; the message has what it printed.
        """
        self._own.enter_context(locked("engine"))
        plugins = self.folder / "config" / "cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / "docker-compose").symlink_to(compose())
        super().start()
        try:
            poll(self._answers)
        except TimeoutError:
            raise TimeoutError(self.output()) from None
        self._remove_containers()
        self._import_base()

    def close(self) -> None:
        """End all containers and it."""
        if self.runs():
            self._remove_containers()
            self.stop()
        self._unmount()
        self._own.close()
        shutil.rmtree(self.folder)

    @property
    def environment(self) -> dict[str, str]:
        """For a shell whose `docker` is to be this engine's."""
        return os.environ | self._environment()

    def docker(self, *words: str, folder: Path = ROOT, timeout: float = 1800) -> str:
        """What `docker WORDS`, typed in this folder, printed on stdout and stderr.

        Raises:
            AssertionError: it failed; the message has what it printed.
        """
        done = self.try_docker(*words, folder=folder, timeout=timeout)
        assert done.returncode == 0, f"docker {' '.join(words)}\n{done.stdout}"
        return done.stdout.strip()

    def try_docker(self, *words: str, folder: Path = ROOT, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """The same, whatever comes of it."""
        return subprocess.run(
            ["docker", *words],
            cwd=folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{programs()}:{os.environ['PATH']}",
            "DOCKER_HOST": f"unix://{self._socket}",
            "DOCKER_CONFIG": str(self.folder / "config"),
            "DOCKER_BUILDKIT": "1",  # the client's default since 23.0
        }

    def _answers(self) -> bool:
        return self.runs() and self.try_docker("version").returncode == 0

    def _unmount(self) -> None:
        """dockerd leaves its own network namespace mounted (exec/netns/default)."""
        mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for point in sorted(mounted, reverse=True):
            if Path(point).is_relative_to(self.folder):
                subprocess.run(["umount", point], check=True)

    def _remove_containers(self) -> None:
        for kind, remove in (("container", ("rm", "--force")), ("volume", ("rm",))):
            if found := self.docker(kind, "ls", "--quiet", *(["--all"] if kind == "container" else [])).split():
                self.docker(kind, *remove, *found)
        self.docker("network", "prune", "--force")
        self.docker("image", "prune", "--force")

    def _import_base(self) -> None:
        tarball = base()
        tag = f"{BASE}-{tarball.stem.rpartition('-')[2]}"
        if not self.docker("images", "--quiet", tag):
            self.docker("import", str(tarball), tag)
        self.docker("tag", tag, BASE)


def main() -> None:
    """Fetch and build all that takes a network, and print where it is."""
    print(programs(), compose(), base())


if __name__ == "__main__":
    main()
