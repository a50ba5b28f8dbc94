"""What the rigs of simulated hypervisors have in common."""

import json
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.rigs.process import Process
from tests.rigs.rig import Rig
from tests.rigs.watching import wait_for_change


class Simulation(Rig):
    """A hypervisor in a process of its own, which tests tell what to do over a loopback port.

    `folder` has all it ever writes.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vmp-", dir="/tmp"))

    def prepare(self, program: Sequence[str], config: Mapping[str, object]) -> None:
        """Say what it is to run: a program that is given a file of settings, and one to write when it serves."""
        file, self._ready = self.folder / "config.json", self.folder / "ready.json"
        file.write_text(json.dumps({"folder": str(self.folder), **config}))
        command = [*program, str(file), str(self._ready)]
        self.process = Process(command, self.folder / "log", env={"TMPDIR": str(self.folder)})

    def launch(self) -> dict[str, Any]:
        """Start it; what it writes when it serves.

        Raises:
            RuntimeError: it ended instead, with its last words.
        """
        self.process.start()
        wait_for_change(
            self.folder,
            lambda: self._ready.exists() or not self.process.runs(),
            self.process.output,
            timeout=60,
        )
        if not self._ready.exists():
            raise RuntimeError(f"the {type(self).__name__} did not start:\n{self.process.output()}")
        ready: dict[str, Any] = json.loads(self._ready.read_text())
        self._control: str = ready["control"]
        return ready

    def close(self) -> None:
        """End it and everything that runs in guests, and remove its folder."""
        if self.process.runs():
            self.process.thaw()
            self.process.stop()
        shutil.rmtree(self.folder)

    def tell(self, action: str, body: object = None) -> Any:
        """Let it do something; its answer.

        Raises:
            ValueError: it would not, and why.
        """
        request = urllib.request.Request(f"{self._control}/{action}", json.dumps(body).encode(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ValueError(f"{action}: {error.read().decode().strip()}") from error
