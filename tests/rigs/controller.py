"""A controller with a directory of manifests, and the statuses it writes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.rigs.process import Program
from tests.rigs.watching import wait_for_change

PROVIDER = """
apiVersion: infra.virtrigaud.io/v1beta1
kind: Provider
metadata: {{name: lab}}
spec: {{type: sim, runtime: {{endpoint: "{address}"}}}}
"""


class Controller(Program):
    """`python -m controller` on `manifests`, a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.manifests, self.state = folder / "manifests", folder / "state"
        super().__init__("controller", "--manifests", str(self.manifests), "--state-dir", str(self.state))
        self.manifests.mkdir()
        self.state.mkdir()

    def write(self, name: str, text: str) -> None:
        """Write a manifest file, or another version of it."""
        (self.manifests / f"{name}.yaml").write_text(text)

    def provider(self, address: str) -> None:
        """The provider `lab`."""
        self.write("provider", PROVIDER.format(address=address))

    def vm(self, name: str, power_state: str, lifecycle: str = "{}") -> None:
        """A VM of `lab`."""
        self.write(
            name,
            f"apiVersion: infra.virtrigaud.io/v1beta1\nkind: VirtualMachine\nmetadata: {{name: {name}}}\n"
            f"spec: {{providerRef: {{name: lab}}, powerState: {power_state}, lifecycle: {lifecycle}}}\n",
        )

    def status(self, name: str, kind: str = "VirtualMachine") -> dict[str, Any]:
        """What the controller wrote, or nothing yet."""
        path = self.state / "default" / kind / f"{name}.yaml"
        return (yaml.safe_load(path.read_text()).get("status") or {}) if path.exists() else {}

    def wait_status(
        self, name: str, holds: Callable[[dict[str, Any]], bool], kind: str = "VirtualMachine", timeout: float = 60
    ) -> dict[str, Any]:
        """The status as soon as it `holds`.

        Raises:
            TimeoutError: it does not; the message has the status and the log.
        """
        status: dict[str, Any] = {}

        def happened() -> bool:
            nonlocal status
            status = self.status(name, kind)
            return holds(status)

        wait_for_change(self.state, happened, lambda: f"{kind} {name}: {status}\n{self.output()}", timeout)
        return status
