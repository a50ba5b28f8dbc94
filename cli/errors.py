"""What can go wrong, as a sentence on stderr and an exit code. Nothing ends in a traceback."""

import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import cast

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from common.text import clean


class ExitCode(IntEnum):
    """How the command ended, for scripts."""

    WANTED = 0
    """As wanted."""
    USAGE = 2
    """The caller's mistake; nothing was done to any VM."""
    FORCED = 3
    """The VM is off, but it did not shut itself down after it was asked: forced, crashed or out of band."""
    FAILED = 4
    """The VM is not in the state that was asked for, or the request was refused."""
    UNREACHABLE = 5
    """No provider answers, or its hypervisor does not."""
    INTERRUPTED = 130
    """Ctrl-C; what was begun goes on."""


_SEVERITY = (ExitCode.UNREACHABLE, ExitCode.USAGE, ExitCode.FAILED, ExitCode.FORCED, ExitCode.WANTED)
_MISTAKES = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}
_SILENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


class Failure(Exception):
    """Ends a command. `hints` are lines that help further, `reason` is the provider's word for programs."""

    def __init__(self, message: str, code: ExitCode, hints: Sequence[str] = (), reason: str = "") -> None:
        super().__init__(message)
        self.message, self.code, self.hints, self.reason = message, code, list(hints), reason


def usage(message: str, *hints: str) -> Failure:
    """The caller's mistake."""
    return Failure(message, ExitCode.USAGE, hints)


def worst(codes: Sequence[ExitCode]) -> ExitCode:
    """The most serious of several ends."""
    return min(codes, key=_SEVERITY.index, default=ExitCode.WANTED)


def complain(failure: Failure) -> None:
    """Print the failure on stderr."""
    print(clean(f"vmpower: {failure.message}"), file=sys.stderr)
    for hint in failure.hints:
        print(clean(f"  {hint}"), file=sys.stderr)


def translate(error: grpc.aio.AioRpcError, address: str) -> Failure:
    """What the provider, or the way to it, says by this error."""
    status = _status(error)
    info, violations = _details(status)
    if info is None:
        return _without_details(error, address)
    if violations:
        lines = [f"{violation.field}: {violation.description}" for violation in violations]
        return usage(f"The request is refused. [{info.reason}]", *lines)
    hints = []
    if operation := info.metadata.get("operation_id"):
        hints = [f"Follow it: vmpower watch {operation}"]
    return Failure(f"{status.message} [{info.reason}]", _code(error.code(), info.reason), hints, info.reason)


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    try:
        status = rpc_status.from_call(cast(grpc.Call, error))
    except ValueError:  # status and trailers disagree: something in between rewrote one of them
        status = None
    return status or status_pb2.Status()


def _details(
    status: status_pb2.Status,
) -> tuple[error_details_pb2.ErrorInfo | None, list[error_details_pb2.BadRequest.FieldViolation]]:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    found = False
    for detail in status.details:
        found = detail.Unpack(info) or found
        detail.Unpack(bad)
    return (info if found else None), list(bad.field_violations)


def _code(code: grpc.StatusCode, reason: str) -> ExitCode:
    if code in _SILENT:
        return ExitCode.UNREACHABLE
    return ExitCode.USAGE if code in _MISTAKES or reason == "AMBIGUOUS_NAME" else ExitCode.FAILED


def _without_details(error: grpc.aio.AioRpcError, address: str) -> Failure:
    if error.code() in _SILENT:
        return unreachable(address, error.details() or "")
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return Failure(
            f"What answers at {address} is not a vmpower provider of this version.",
            ExitCode.UNREACHABLE,
            ["Check the address given by --provider, VMPOWER_PROVIDER or the configuration file."],
        )
    name = error.code().name
    return Failure(f"The provider at {address} answered {name}: {error.details()}", _code(error.code(), name))


def unreachable(address: str, details: str) -> Failure:
    """Nobody answers at `address`."""
    check = (
        "Check that the provider runs and listens there (--listen), and that you may write to the socket."
        if address.startswith("unix")
        else "Check that the provider runs and listens there (--listen), the way to it, and the TLS files."
    )
    return Failure(f"No provider answers at {address}.", ExitCode.UNREACHABLE, [check, f"gRPC says: {details}"])
