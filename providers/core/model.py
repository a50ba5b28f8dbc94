"""An operation from request to verdict, as it is kept in memory and in the journal.

All of it is immutable: a change is a new object, so a watcher never sees half a change.
Credentials and HTTP header values are never part of what is written (`Field(exclude=True)`).
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from providers.core.adapter import Escalation, GuestCredentials, Reason, Signal

DEFAULT_HOOK_TIMEOUT = timedelta(seconds=30)


class Kind(StrEnum):
    """What was asked for."""

    POWER_ON = "POWER_ON"
    POWER_OFF = "POWER_OFF"
    SHUTDOWN = "SHUTDOWN"
    REBOOT = "REBOOT"


class State(StrEnum):
    """Where an operation stands."""

    PENDING = "PENDING"
    RUNNING_HOOKS = "RUNNING_HOOKS"
    WAITING_FOR_GUEST = "WAITING_FOR_GUEST"
    AWAITING_DECISION = "AWAITING_DECISION"
    FORCING = "FORCING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Outcome(StrEnum):
    """How it ended."""

    GRACEFUL = "GRACEFUL"
    FORCED = "FORCED"
    ALREADY_OFF = "ALREADY_OFF"
    CRASHED = "CRASHED"
    OUT_OF_BAND = "OUT_OF_BAND"
    STILL_RUNNING = "STILL_RUNNING"
    STARTED = "STARTED"
    ALREADY_ON = "ALREADY_ON"
    UNKNOWN = "UNKNOWN"
    """It cannot be known how, or whether, it went down."""


class FailurePolicy(StrEnum):
    """What a hook's failure does to the operation."""

    CONTINUE = "CONTINUE"
    ABORT = "ABORT"


class HookState(StrEnum):
    """How one hook ended."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    INTERRUPTED = "INTERRUPTED"
    SKIPPED = "SKIPPED"


class Record(BaseModel):
    """The base of everything here: immutable, and nothing unknown gets in."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ExecHook(Record):
    """Runs a program in the guest."""

    type: Literal["exec"] = "exec"
    command: tuple[str, ...]


class HttpGetHook(Record):
    """Calls a URL. `header_names` outlive a restart, the values do not."""

    type: Literal["http_get"] = "http_get"
    url: str
    headers: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    header_names: tuple[str, ...] = ()
    expect_status: int = 0


class SnapshotHook(Record):
    """Takes a snapshot."""

    type: Literal["snapshot"] = "snapshot"
    name: str = ""
    description: str = ""
    include_memory: bool = False


class Hook(Record):
    """Something to do before a VM goes down or after it came up."""

    name: str
    handler: Annotated[ExecHook | HttpGetHook | SnapshotHook, Field(discriminator="type")]
    timeout: timedelta = DEFAULT_HOOK_TIMEOUT
    failure_policy: FailurePolicy = FailurePolicy.CONTINUE


class HookResult(Record):
    """What a hook did. `output` is its last 4 KiB as text."""

    name: str
    state: HookState
    exit_code: int = 0
    output: str = ""
    duration: timedelta = timedelta(0)


class TimeoutOrigin(StrEnum):
    """Where the timeout that counts comes from."""

    CALLER = "CALLER"
    """The request names it, or the moment at which it ends."""
    HYPERVISOR = "HYPERVISOR"
    """The request names none, and the hypervisor has one for this VM."""
    DEFAULT = "DEFAULT"
    """The request names none, and the provider's setting holds."""
    EXTENSION = "EXTENSION"

    @property
    def named(self) -> bool:
        return self in (TimeoutOrigin.CALLER, TimeoutOrigin.EXTENSION)


class Request(Record):
    """What the caller asked for; `timeout` None: no timeout was named."""

    kind: Kind
    vm_id: str
    vm_name: str
    request_id: str = ""
    timeout: timedelta | None = None
    force_after: datetime | None = None
    escalation: Escalation = Escalation.FORCE
    hooks: tuple[Hook, ...] = ()
    signal_order: tuple[Signal, ...] = ()
    resend_interval: timedelta = timedelta(seconds=10)
    credentials: GuestCredentials | None = Field(default=None, exclude=True, repr=False)


class Decision(StrEnum):
    """What a caller decided about an operation while it was under way."""

    FORCE = "FORCE"
    CANCEL = "CANCEL"
    PREEMPT = "PREEMPT"
    """A hard PowerOff of the same VM came."""
    CALL_OFF = "CALL_OFF"
    """A PowerOn of the same VM came."""


class Step(Record):
    """One thing that an operation did."""

    time: datetime
    state: State
    message: str


class Sent(Record):
    """A signal that the guest was sent. It is written down before it is sent, so that a restart does
    not send it twice; `refused` is added when the hypervisor or the guest says so.

    `number` tells it from the others of its operation. `handed_over` is when the hypervisor will cut the power by
    itself; None: it will not. `kept`: we asked it to drop that, and it refused or did not answer.
    """

    number: int
    time: datetime
    signal: Signal
    refused: bool = False
    handed_over: datetime | None = None
    kept: bool = False


class Verdict(Record):
    """What happened, once, when it was over."""

    outcome: Outcome
    reason: Reason | None = None
    signal: Signal | None = None
    start_time: datetime
    end_time: datetime
    hooks: tuple[HookResult, ...] = ()
    message: str


class Failure(Record):
    """Why an operation failed. `code` is the number of a google.rpc.Code."""

    code: int
    reason: str
    message: str


class Operation(Record):
    """One PowerOn, PowerOff, Shutdown or Reboot of one VM.

    `timeout` is the grace period that counts, from where `timeout_origin` says. `grace_start` is when
    the hooks ended. `hook_started` names the hook that was begun and has no result yet. `force_reason`
    is set once the operation came to the point where force is due, and `obstacle` is what stood in the way
    then, for people. `went_down` is how a Reboot's first half ended; `starting` that the VM was told to power on.
    """

    id: str
    request: Request
    state: State = State.PENDING
    create_time: datetime
    timeout: timedelta
    timeout_origin: TimeoutOrigin = TimeoutOrigin.CALLER
    grace_start: datetime | None = None
    force_after: datetime | None = None
    force_reason: Reason | None = None
    obstacle: str = ""
    decision: Decision | None = None
    hook_started: str = ""
    hooks: tuple[HookResult, ...] = ()
    sent: tuple[Sent, ...] = ()
    steps: tuple[Step, ...] = ()
    starting: bool = False
    went_down: Verdict | None = None
    verdict: Verdict | None = None
    failure: Failure | None = None

    @property
    def next_number(self) -> int:
        return max((sent.number for sent in self.sent), default=0) + 1

    def sent_but(self, number: int, **changes: Any) -> tuple[Sent, ...]:
        """What was sent, with changes in the one of this number."""
        return tuple(sent.model_copy(update=changes) if sent.number == number else sent for sent in self.sent)

    @property
    def escalation(self) -> Escalation:
        """What happens at force_after: what was requested, unless the shutdown was called off."""
        return Escalation.NEVER if self.decision is Decision.CALL_OFF else self.request.escalation

    @property
    def hooks_left(self) -> tuple[Hook, ...]:
        return self.request.hooks[len(self.hooks) :]
