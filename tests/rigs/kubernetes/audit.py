"""The API server's own record of who asked it for what."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

# Each request once, when it has been answered; a watch also when it begins (stage ResponseStarted).
POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True)
class AuditEvent:
    """One request; what it was not about is ''. `time` is when it came in, `code` its HTTP status (0: none)."""

    user: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    stage: str
    time: datetime

    @property
    def is_write(self) -> bool:
        """Whether it was to change something."""
        return self.verb in WRITES

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """From a line of the audit log (audit.k8s.io/v1 Event)."""
        event: dict[str, Any] = json.loads(line)
        about = event.get("objectRef", {})
        return cls(
            user=event["user"].get("username", ""),
            verb=event["verb"],
            group=about.get("apiGroup", ""),
            resource=about.get("resource", ""),
            subresource=about.get("subresource", ""),
            namespace=about.get("namespace", ""),
            name=about.get("name", ""),
            code=event.get("responseStatus", {}).get("code", 0),
            stage=event["stage"],
            time=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        )


class AuditLog:
    """The file that the API server appends to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mark(self) -> int:
        """Where it ends now."""
        return self.path.stat().st_size if self.path.exists() else 0

    def events(self, since: int = 0) -> list[AuditEvent]:
        """All after a mark. A line that is just being written is not yet one of them."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(since)
            whole, _, _ = file.read().rpartition(b"\n")
        return [AuditEvent.parse(line) for line in whole.split(b"\n") if line]
