"""What can go wrong, as a sentence on stderr and an exit code. Nothing ends in a traceback."""

import sys
from collections.abc import Sequence
from enum import IntEnum

from client.errors import ProviderError
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
    UNKNOWN = 6
    """The VM is off, but how it went down cannot be known; or whether it is off."""
    FOUND = 7
    """`doctor` found a problem; warnings alone are none."""
    INTERRUPTED = 130
    """Ctrl-C; what was begun goes on."""


_SEVERITY = (
    ExitCode.UNREACHABLE,
    ExitCode.USAGE,
    ExitCode.FAILED,
    ExitCode.UNKNOWN,
    ExitCode.FORCED,
    ExitCode.FOUND,
    ExitCode.WANTED,
)
_MISTAKES = {"INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "AMBIGUOUS_NAME", "TLS_FILE_UNREADABLE"}
"""Codes and reasons."""
_SILENT = {"UNAVAILABLE", "DEADLINE_EXCEEDED"}


class Failure(Exception):
    """Ends a command. `hints` are lines that help further, `reason` is the provider's word for programs."""

    def __init__(self, message: str, code: ExitCode, hints: Sequence[str] = (), reason: str = "") -> None:
        super().__init__(message)
        self.message, self.code, self.hints, self.reason = message, code, list(hints), reason


def usage(message: str, *hints: str) -> Failure:
    """The caller's mistake."""
    return Failure(message, ExitCode.USAGE, hints)


def worst(codes: Sequence[ExitCode]) -> ExitCode:
    return min(codes, key=_SEVERITY.index, default=ExitCode.WANTED)


def complain(failure: Failure) -> None:
    print(clean(f"vmpower: {failure.message}"), file=sys.stderr)
    for hint in failure.hints:
        print(clean(f"  {hint}"), file=sys.stderr)


def translate(error: ProviderError, address: str) -> Failure:
    """What the provider, or the way to it, says by this error."""
    if not error.explained:
        return _unexplained(error, address)
    if error.violations:
        return usage(f"The request is refused. [{error.reason}]", *map(": ".join, error.violations))
    operation = error.metadata.get("operation_id")
    hints = [f"Follow it: vmpower watch {operation}"] if operation else []
    return Failure(f"{error.message} [{error.reason}]", _code(error), hints, error.reason)


def _code(error: ProviderError) -> ExitCode:
    if error.code in _SILENT:
        return ExitCode.UNREACHABLE
    return ExitCode.USAGE if {error.code, error.reason} & _MISTAKES else ExitCode.FAILED


def _unexplained(error: ProviderError, address: str) -> Failure:
    if error.code in _SILENT:
        return unreachable(address, error.message)
    if error.code == "UNIMPLEMENTED":
        return Failure(
            f"What answers at {address} is not a vmpower provider of this version.",
            ExitCode.UNREACHABLE,
            ["Check the address given by --provider, VMPOWER_PROVIDER or the configuration file."],
        )
    message = f"The provider at {address} answered {error.code}: {error.message}"
    return Failure(message, _code(error), reason=error.reason)


def unreachable(address: str, details: str) -> Failure:
    check = (
        "Check that the provider runs and listens there (--listen), and that you may write to the socket."
        if address.startswith("unix")
        else "Check that the provider runs and listens there (--listen), the way to it, and the TLS files."
    )
    return Failure(f"No provider answers at {address}.", ExitCode.UNREACHABLE, [check, f"gRPC says: {details}"])
