"""Every error vmpower can end a call with: each class names its gRPC code, its machine-readable reason and who
acts next. docs/reference.md lists them; `providers/server/interceptor.py` alone turns one into an RPC status.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum, StrEnum


class Code(IntEnum):
    """The canonical codes that are used here, with their numbers (google/rpc/code.proto)."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field, by its path in the request ("pre_stop[0].exec.command")."""

    field: str
    description: str


class VmpowerError(Exception):
    """The root of all errors, and itself a bug in vmpower.

    The message is a sentence for people that says who acts next.

    Attributes:
        code: the canonical code of the RPC that ends with it.
        reason: UPPER_SNAKE_CASE, the `reason` of AIP-193's ErrorInfo.
        who_acts: who does what next, for docs/reference.md.
        metadata: what a program needs to act on it; no secrets.
        retry_delay: after how long the same request is worth another attempt (RetryInfo); None: nothing is said.
    """

    code: Code = Code.INTERNAL
    reason: str = "INTERNAL"
    who_acts: str = "the operator of the provider reports what its log says"
    retry_delay: timedelta | None = None

    def __init__(self, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})


class InvalidRequest(VmpowerError):
    """The request cannot be meant; each violation names a field."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"
    who_acts = "the caller mends the request"

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations) + ". Mend the request.")
        self.violations = violations


class VMNotFound(VmpowerError):
    """No VM has this id or name."""

    code = Code.NOT_FOUND
    reason = "VM_NOT_FOUND"
    who_acts = "the caller names another VM"


class AmbiguousName(VmpowerError):
    """Several VMs bear this name; metadata["ids"] lists them, separated by commas."""

    code = Code.FAILED_PRECONDITION
    reason = "AMBIGUOUS_NAME"
    who_acts = "the caller uses an id"


class OperationNotFound(VmpowerError):
    """No operation has this id."""

    code = Code.NOT_FOUND
    reason = "OPERATION_NOT_FOUND"
    who_acts = "the caller names another operation"


class OperationActive(VmpowerError):
    """Another operation is active on the VM; metadata["operation_id"] is its id."""

    code = Code.ABORTED
    reason = "OPERATION_ACTIVE"
    who_acts = "the caller waits for, extends or cancels the active one"


class OperationEnded(VmpowerError):
    """The operation has its verdict already."""

    code = Code.FAILED_PRECONDITION
    reason = "OPERATION_ENDED"
    who_acts = "nothing to do: it is over"


class VMRefused(VmpowerError):
    """This kind of VM takes no operations."""

    code = Code.FAILED_PRECONDITION
    reason = "VM_REFUSED"
    who_acts = "the owner picks another VM (a template, ...)"


class Unsupported(VmpowerError):
    """The hypervisor has no such ability."""

    code = Code.UNIMPLEMENTED
    reason = "UNSUPPORTED"
    who_acts = "the caller leaves it out"


class Disabled(VmpowerError):
    """The provider's configuration turns it off."""

    code = Code.FAILED_PRECONDITION
    reason = "DISABLED"
    who_acts = "the operator of the provider turns it on"


class NotAllowed(VmpowerError):
    """The client's certificate does not carry the role."""

    code = Code.PERMISSION_DENIED
    reason = "NOT_ALLOWED"
    who_acts = "the operator of the provider grants a role"


class JournalFailed(VmpowerError):
    """Operations cannot be written to disk, so none may begin."""

    reason = "JOURNAL_FAILED"
    who_acts = "the operator of the provider mends the disk"


class HypervisorBusy(VmpowerError):
    """As much waits for the hypervisor as may; `RetryInfo` says when to send this again. No PowerOff is refused so."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "HYPERVISOR_BUSY"
    who_acts = "the caller sends it again after the time that RetryInfo names; the Python client does so by itself"
    retry_delay: timedelta = timedelta(seconds=1)


class HypervisorError(VmpowerError):
    """What an adapter may raise about its hypervisor."""


class ConnectionProblem(StrEnum):
    """What keeps a provider from its hypervisor."""

    UNREACHABLE = "UNREACHABLE"
    LOGIN_REFUSED = "LOGIN_REFUSED"
    CERTIFICATE = "CERTIFICATE"
    NOT_PERMITTED = "NOT_PERMITTED"
    """The operating system keeps this user from its socket."""


class HypervisorUnavailable(HypervisorError):
    """The connection is lost or refused; `problem` says by what, where that is known."""

    code = Code.UNAVAILABLE
    reason = "HYPERVISOR_UNAVAILABLE"
    who_acts = "nothing to do: it is retried with back-off"

    def __init__(
        self, message: str, metadata: Mapping[str, str] | None = None, *, problem: ConnectionProblem | None = None
    ) -> None:
        super().__init__(message, metadata)
        self.problem = problem


class CommandFailed(HypervisorError):
    """The hypervisor or the guest refused or failed what it was told."""

    code = Code.FAILED_PRECONDITION
    reason = "COMMAND_FAILED"
    who_acts = "the operator of the hypervisor, or the guest's owner, looks into it"


class ProgramMissing(CommandFailed):
    """The guest has no such program, or may not start it."""

    reason = "PROGRAM_MISSING"
    who_acts = "the hook's owner mends the command, or installs the program in the guest"


class GuestLoginRefused(CommandFailed):
    """The guest refuses the login by which a program was to run in it."""

    reason = "GUEST_LOGIN_REFUSED"
    who_acts = "the hook's owner names another user or password"


class Locked(CommandFailed):
    """Something else holds the VM for a while (a backup, a migration); nothing was done to it."""

    reason = "LOCKED"
    who_acts = "nothing to do: what holds the VM ends"


class UnknownNativeState(HypervisorError):
    """The hypervisor reports a state that the mapping does not know."""

    reason = "UNKNOWN_NATIVE_STATE"
    who_acts = "the makers of vmpower add the state"
