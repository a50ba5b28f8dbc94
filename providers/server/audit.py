"""Who decided what: a line of JSON for each call that changes something, or would have if it had not been refused.

Lines go to a file of their own (--audit-log), which may be moved away (logrotate) at any time, or among the logs.
"""

import asyncio
import json
import os
from datetime import UTC, datetime
from logging import LogRecord, makeLogRecord
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

import structlog
from google.protobuf.message import Message

from protos.power.v1 import power_pb2 as pb
from providers.core.errors import Code, VmpowerError

LONGEST = 1_024
"""Characters of what a refused request says."""
FIELDS = ("vm", "id", "request_id", "reason", "on_behalf_of")
"""What a line tells of a request, which may have any of them."""

log = structlog.get_logger()


class AuditUnusable(VmpowerError):
    """The audit log cannot be written; the provider's operator names another file."""


class _File(WatchedFileHandler):
    """For this user alone. It is opened again when it was moved away."""

    def _open(self) -> Any:
        return open(self.baseFilename, "a", encoding="utf-8", opener=_private)

    def handleError(self, record: LogRecord) -> None:  # noqa: N802 - logging's name
        log.error("not written to the audit log; its operator frees the disk", file=self.baseFilename, line=record.msg)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Audit:
    """Where the lines go."""

    def __init__(self, file: Path | None) -> None:
        """Raises AuditUnusable."""
        try:
            self._file = _File(file) if file else None
        except OSError as error:
            raise AuditUnusable(f"--audit-log {file}: {error}; the provider's operator names another file.") from error

    def close(self) -> None:
        """Write no more."""
        if self._file:
            self._file.close()

    def note(self, client: str, method: str, request: Message | VmpowerError, result: Message | BaseException) -> None:
        """One call: what was asked, by whom, and the operation or the refusal that came of it."""
        fields = {"client": client, "method": method} | _asked(request) | _became(result)
        if self._file is None:
            log.info("asked", **fields)
        else:
            line = {"time": datetime.now(UTC).isoformat()} | fields
            self._file.emit(makeLogRecord({"msg": json.dumps(line)}))


def _asked(request: Message | VmpowerError) -> dict[str, Any]:
    if isinstance(request, VmpowerError):
        return {}
    given = {field: getattr(request, field, "") for field in FIELDS}
    return {field: value[:LONGEST] for field, value in given.items() if value}


def _became(result: Message | BaseException) -> dict[str, Any]:
    if isinstance(result, pb.Operation):
        kind = pb.OperationKind.Name(result.kind).removeprefix("OPERATION_KIND_")
        return {"result": "OK", "operation": result.id, "kind": kind, "vm_id": result.vm, "vm_name": result.vm_name}
    if isinstance(result, VmpowerError):
        return {"result": result.code.name, "error": result.reason, "message": result.message[:LONGEST]}
    if isinstance(result, asyncio.CancelledError):
        return {"result": "CANCELLED", "message": "The client hung up before it had an answer; the work may go on."}
    return {"result": Code.INTERNAL.name if isinstance(result, Exception) else "OK"}
