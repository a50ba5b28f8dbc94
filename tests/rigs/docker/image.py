"""Containers of our image, one at a time."""

import json
from datetime import datetime
from typing import Any

from common.version import version
from tests.rigs.docker.engine import Engine
from tests.rigs.polling import poll

IMAGE = f"vmpower:{version()}"
"""As docker-compose.yml and the chart name it."""
LOCKED_DOWN = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp")
"""As docker-compose.yml and the chart have it."""


class Container:
    """`docker run --detach WORDS`; it goes on until `remove`."""

    def __init__(self, engine: Engine, *words: str) -> None:
        self._engine = engine
        self.id = engine.docker("run", "--detach", *words).splitlines()[-1]

    def python(self, script: str) -> str:
        """What a script printed inside."""
        return self.execute("python", "-c", script)

    def execute(self, *command: str) -> str:
        """What a command printed inside."""
        return self._engine.docker("exec", self.id, *command)

    def inspect(self) -> dict[str, Any]:
        """All that the engine knows of it."""
        (found,) = json.loads(self._engine.docker("inspect", self.id))
        return dict(found)

    def logs(self) -> str:
        """All that it has printed."""
        return self._engine.docker("logs", self.id)

    def wait_log(self, event: str) -> dict[str, Any]:
        """Wait until its program has logged this event; the line."""

        def found() -> dict[str, Any] | None:
            lines = [json.loads(line) for line in self.logs().splitlines() if line.startswith("{")]
            return next((line for line in lines if line.get("event") == event), None)

        try:
            return poll(found) or {}
        except TimeoutError:
            raise TimeoutError(self.logs()) from None

    def wait_health(self, status: str) -> None:
        """Wait until its HEALTHCHECK says so: starting, healthy, unhealthy."""
        try:
            poll(lambda: self.inspect()["State"]["Health"]["Status"] == status, 120)
        except TimeoutError:
            raise TimeoutError(f"{self.inspect()['State']['Health']}\n{self.logs()}") from None

    def seconds_until(self, event: str) -> float:
        """From the container's start to an event in its log."""
        logged = datetime.fromisoformat(self.wait_log(event)["time"])
        began = datetime.fromisoformat(self.inspect()["State"]["StartedAt"][:26] + "+00:00")
        return (logged - began).total_seconds()

    def stop(self) -> int:
        """Ask it to end (SIGTERM), and return its exit code; 137 if it had to be killed after 30 s."""
        self._engine.docker("stop", "--time", "30", self.id)
        return int(self.inspect()["State"]["ExitCode"])

    def remove(self) -> None:
        """End it, and its volumes without a name."""
        self._engine.docker("rm", "--force", "--volumes", self.id)
