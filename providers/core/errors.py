"""Every error vmpower can end a call with: each class names its gRPC code and its machine-readable reason.

    VmpowerError
    ├── InvalidRequest          INVALID_ARGUMENT     the caller mends the request
    ├── VMNotFound              NOT_FOUND            the caller names another VM
    ├── AmbiguousName           FAILED_PRECONDITION  the caller uses an id
    ├── OperationNotFound       NOT_FOUND            the caller names another operation
    ├── OperationActive         ABORTED              the caller waits for, extends or cancels the active one
    ├── OperationEnded          FAILED_PRECONDITION  nobody: it is over
    ├── VMRefused               FAILED_PRECONDITION  the owner picks another VM (a template, ...)
    ├── Unsupported             UNIMPLEMENTED        the caller leaves it out
    ├── Disabled                FAILED_PRECONDITION  the operator of the provider turns it on
    ├── NotAllowed              PERMISSION_DENIED    the operator of the provider grants a role
    ├── JournalFailed           INTERNAL             the operator of the provider mends the disk
    └── HypervisorError
        ├── HypervisorUnavailable  UNAVAILABLE       nobody: it is retried with back-off
        ├── CommandFailed          FAILED_PRECONDITION  the operator of the hypervisor
        │   └── Locked             FAILED_PRECONDITION  nobody: what holds the VM ends
        └── UnknownNativeState     INTERNAL          the makers of vmpower

`providers/server/interceptor.py` is the only place that turns one into an RPC status.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class Code(IntEnum):
    """The canonical codes that are used here, with their numbers (google/rpc/code.proto)."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field, by its path in the request ("pre_stop[0].exec.command")."""

    field: str
    description: str


class VmpowerError(Exception):
    """The root. The message is a sentence for people that says who acts next.

    Attributes:
        code: the canonical code of the RPC that ends with it.
        reason: UPPER_SNAKE_CASE, the `reason` of AIP-193's ErrorInfo.
        metadata: what a program needs to act on it; no secrets.
    """

    code: Code = Code.INTERNAL
    reason: str = "INTERNAL"

    def __init__(self, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})


class InvalidRequest(VmpowerError):
    """The request cannot be meant; each violation names a field."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations) + ". Mend the request.")
        self.violations = violations


class VMNotFound(VmpowerError):
    """No VM has this id or name."""

    code = Code.NOT_FOUND
    reason = "VM_NOT_FOUND"


class AmbiguousName(VmpowerError):
    """Several VMs bear this name; metadata["ids"] lists them, separated by commas."""

    code = Code.FAILED_PRECONDITION
    reason = "AMBIGUOUS_NAME"


class OperationNotFound(VmpowerError):
    """No operation has this id."""

    code = Code.NOT_FOUND
    reason = "OPERATION_NOT_FOUND"


class OperationActive(VmpowerError):
    """Another operation is active on the VM; metadata["operation_id"] is its id."""

    code = Code.ABORTED
    reason = "OPERATION_ACTIVE"


class OperationEnded(VmpowerError):
    """The operation has its verdict already."""

    code = Code.FAILED_PRECONDITION
    reason = "OPERATION_ENDED"


class VMRefused(VmpowerError):
    """This kind of VM takes no operations."""

    code = Code.FAILED_PRECONDITION
    reason = "VM_REFUSED"


class Unsupported(VmpowerError):
    """The hypervisor has no such ability."""

    code = Code.UNIMPLEMENTED
    reason = "UNSUPPORTED"


class Disabled(VmpowerError):
    """The provider's configuration turns it off."""

    code = Code.FAILED_PRECONDITION
    reason = "DISABLED"


class NotAllowed(VmpowerError):
    """The client's certificate does not carry the role."""

    code = Code.PERMISSION_DENIED
    reason = "NOT_ALLOWED"


class JournalFailed(VmpowerError):
    """Operations cannot be written to disk, so none may begin."""

    reason = "JOURNAL_FAILED"


class HypervisorError(VmpowerError):
    """What an adapter may raise about its hypervisor."""


class HypervisorUnavailable(HypervisorError):
    """The connection is lost or refused."""

    code = Code.UNAVAILABLE
    reason = "HYPERVISOR_UNAVAILABLE"


class CommandFailed(HypervisorError):
    """The hypervisor or the guest refused or failed what it was told."""

    code = Code.FAILED_PRECONDITION
    reason = "COMMAND_FAILED"


class Locked(CommandFailed):
    """Something else holds the VM for a while (a backup, a migration); nothing was done to it."""

    reason = "LOCKED"


class UnknownNativeState(HypervisorError):
    """The hypervisor reports a state that the mapping does not know."""

    reason = "UNKNOWN_NATIVE_STATE"
