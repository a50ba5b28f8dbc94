"""What an extension does to an operation: a pure function."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from common.durations import MAX_TIMEOUT, to_text
from providers.core.errors import InvalidRequest, Violation
from providers.core.model import Operation, State, TimeoutOrigin


@dataclass(frozen=True, slots=True)
class Extension:
    """Exactly one of: so much longer; until this moment; this grace period, counted from its beginning."""

    by: timedelta | None = None
    until: datetime | None = None
    timeout: timedelta | None = None

    def __str__(self) -> str:
        """For the operation's steps."""
        if self.until is not None:
            return f"until {self.until.isoformat(timespec='seconds')}"
        length = to_text(self.by or self.timeout or timedelta(0))
        return f"by {length}" if self.by is not None else f"grace period {length}"


def extended(operation: Operation, extension: Extension, now: datetime) -> dict[str, Any]:
    """The operation's changed fields.

    While hooks run and no moment is set, only the length of the coming grace period changes.

    Raises:
        InvalidRequest: the new moment is past, or more than 24 h ahead.
    """
    field = "extension" if extension.by is not None else "timeout" if extension.timeout is not None else "force_after"
    if operation.force_after is None and extension.until is None:
        timeout = extension.timeout or operation.timeout + (extension.by or timedelta(0))
        _require(now + timeout, now, field)
        return {"timeout": timeout, "timeout_origin": TimeoutOrigin.EXTENSION}
    force_after = _moment(operation, extension, now)
    _require(force_after, now, field)
    waiting = State.WAITING_FOR_GUEST if operation.state is State.AWAITING_DECISION else operation.state
    timeout = force_after - (operation.grace_start or now)
    named = {"timeout": timeout, "timeout_origin": TimeoutOrigin.EXTENSION}
    return {"force_after": force_after, "state": waiting, **named}


def _moment(operation: Operation, extension: Extension, now: datetime) -> datetime:
    if extension.until is not None:
        return extension.until
    if extension.timeout is not None:
        return max(now, (operation.grace_start or now) + extension.timeout)
    return max(now, operation.force_after or now) + (extension.by or timedelta(0))


def _require(force_after: datetime, now: datetime, field: str) -> None:
    if not now <= force_after <= now + MAX_TIMEOUT:
        raise InvalidRequest(Violation(field, f"{force_after.isoformat()} is not within the next 24 h"))
