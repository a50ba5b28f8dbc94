"""docker-compose.yml in a folder of its own, as a new user has it in a clone.

with Project(engine) as project:
    project.compose("up", "--detach")
    project.vmpower("list")
"""

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

from tests.rigs.docker.engine import BASE, Engine
from tests.rigs.polling import poll
from tests.rigs.process import ROOT
from tests.rigs.rig import Rig

NOT_CLONED = shutil.ignore_patterns(
    ".git", ".*_cache", ".run", ".hypothesis", "__pycache__", "build", "dist", "*.egg-info"
)
FILES = f"docker-compose.yml:{ROOT}/tests/rigs/docker/network.yml"
MANIFEST = """
apiVersion: infra.virtrigaud.io/v1beta1
kind: VirtualMachine
metadata: {{name: {name}}}
spec: {{providerRef: {{name: lab}}, powerState: {state}, lifecycle: {lifecycle}}}
"""


UNREACHABLE = 5
"""`vmpower`'s exit code: no provider answers."""


class Project(Rig):
    """`folder` is the clone. `settings` go into its .env. What was begun there ends with it, volumes too."""

    def __init__(self, engine: Engine, **settings: str) -> None:
        self.engine = engine
        self.folder = Path(tempfile.mkdtemp(prefix="vmp-", dir="/tmp"))
        shutil.copytree(ROOT, self.folder, ignore=NOT_CLONED, dirs_exist_ok=True)
        self.folder.chmod(0o755)  # the container's user reads there
        lines = "".join(f"{name}={value}\n" for name, value in settings.items())
        (self.folder / ".env").write_text(f"BASE={BASE}\nCOMPOSE_FILE={FILES}\n{lines}")

    def start(self) -> None:
        """Nothing runs yet."""

    def close(self) -> None:
        """End all of it, and remove its volumes."""
        self.compose("--profile=*", "down", "--volumes", "--remove-orphans")
        shutil.rmtree(self.folder)

    def compose(self, *words: str) -> str:
        """What `docker compose WORDS` printed.

        Raises:
            AssertionError: it failed; the message has what it printed.
        """
        return self.engine.docker("compose", "--ansi=never", *words, folder=self.folder)

    def operations(self, *vm: str) -> list[dict[str, Any]] | None:
        """What `vmpower operations` prints of a VM, or of all; None while the provider does not answer."""
        run = ("compose", "run", "--rm", "--no-TTY", "vmpower", "operations", *vm, "--output", "json")
        done = self.engine.try_docker(*run, folder=self.folder)
        if done.returncode == UNREACHABLE:
            return None
        assert done.returncode == 0, done.stdout
        return list(json.loads(done.stdout))

    def declare(self, name: str, state: str, lifecycle: str = "{}") -> None:
        """Drop a manifest into ./examples, or replace it."""
        text = MANIFEST.format(name=name, state=state, lifecycle=lifecycle)
        (self.folder / "examples" / f"{name}.yaml").write_text(text)

    def operation(self, vm: str, state: str) -> dict[str, Any]:
        """Wait until the VM's newest operation stands in `state`; the operation."""

        def found() -> dict[str, Any] | None:
            newest = (self.operations(vm) or [{}])[0]
            return newest if newest.get("state") == state else None

        return poll(found, 120) or {}

    def process(self, service: str) -> int:
        """The number of a running service's first process, as this machine has it."""
        return int(self.engine.docker("inspect", "--format={{.State.Pid}}", self.container(service)))

    def kill(self, service: str) -> None:
        """SIGKILL, as the kernel sends it when memory is short. (`docker kill` would be a person's: not restarted.)"""
        os.kill(self.process(service), signal.SIGKILL)

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.compose("ps", "--all", "--quiet", service)
