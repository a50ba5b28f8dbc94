"""An operation from request to verdict, as it is kept in memory and in the journal.

All of it is immutable: a change is a new object, so a watcher never sees half a change.
Credentials and HTTP header values are never part of what is written (`Field(exclude=True)`).
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from providers.core.adapter import Escalation, GuestCredentials, Reason, Signal
from providers.core.clock import Boot

DEFAULT_HOOK_TIMEOUT = timedelta(seconds=30)
MOST_STEPS, FIRST_STEPS = 100, 20
"""How many steps of an operation are kept; of more, the first few and the latest."""


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
    SAVING = "SAVING"
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
    SAVED = "SAVED"
    """Its memory is saved, and it runs nowhere."""


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


class TcpHook(Record):
    """Connects to a port of the VM."""

    type: Literal["tcp"] = "tcp"
    port: int


Handler = ExecHook | HttpGetHook | SnapshotHook | TcpHook


class Hook(Record):
    """Something to do before a VM goes down or after it came up. `repeat`: again and again until it succeeds, after
    a restart, too."""

    name: str
    handler: Annotated[Handler, Field(discriminator="type")]
    timeout: timedelta = DEFAULT_HOOK_TIMEOUT
    failure_policy: FailurePolicy = FailurePolicy.CONTINUE
    repeat: bool = False


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


class Asked(Record):
    """Who asked, for whom, and why, as text on one line. `requested_by` is what the provider knows of the caller."""

    requested_by: str = ""
    on_behalf_of: str = ""
    reason: str = ""

    def __str__(self) -> str:
        by = f", asked by {self.requested_by}" if self.requested_by else ""
        whom = f" on behalf of {self.on_behalf_of}" if self.on_behalf_of else ""
        return f"{by}{whom}{f': {self.reason}' if self.reason else ''}"

    def is_by(self, name: str) -> bool:
        """Whether one of its names is this one, as a whole."""
        return name == self.on_behalf_of or f" {name} " in f" {self.requested_by} "


class Request(Record):
    """What the caller asked for; `timeout` None: no timeout was named."""

    kind: Kind
    vm_id: str
    vm_name: str
    request_id: str = ""
    timeout: timedelta | None = None
    force_after: datetime | None = None
    escalation: Escalation = Escalation.FORCE
    save_fallback: Escalation = Escalation.NEVER
    """FORCE or NEVER: instead of SAVE, where the memory cannot be saved."""
    hooks: tuple[Hook, ...] = ()
    signal_order: tuple[Signal, ...] = ()
    resend_interval: timedelta = timedelta(seconds=10)
    credentials: GuestCredentials | None = Field(default=None, exclude=True, repr=False)
    asked: Asked = Asked()


class Decision(StrEnum):
    """What a caller decided about an operation while it was under way."""

    FORCE = "FORCE"
    CANCEL = "CANCEL"
    PREEMPT = "PREEMPT"
    """A hard PowerOff of the same VM came."""
    CALL_OFF = "CALL_OFF"
    """A PowerOn of the same VM came."""


class Step(Record):
    """One thing that an operation did, `count` times in a row; `time` is the first, `last_time` the latest time."""

    time: datetime
    state: State
    message: str
    count: int = 1
    last_time: datetime | None = None


class Delivery(StrEnum):
    """What is known of a signal's way to the guest."""

    SENDING = "SENDING"
    """It was written down and is being sent: no answer has come."""
    ACCEPTED = "ACCEPTED"
    REFUSED = "REFUSED"
    UNKNOWN = "UNKNOWN"
    """It may have reached the guest or not: the connection, or this process, was lost meanwhile."""


class Sent(Record):
    """A signal that the guest was sent: written down before it is sent, so that a restart knows of it.

    `number` tells it from the others of its operation. `times` is how often it was accepted in a row, and `time` the
    latest. `handed_over` is when the hypervisor will cut the power by itself; None: it will not. `kept`: we asked it to
    drop that, and it refused or did not answer.
    """

    number: int
    time: datetime
    signal: Signal
    delivery: Delivery = Delivery.SENDING
    times: int = 1
    handed_over: datetime | None = None
    kept: bool = False

    @property
    def refused(self) -> bool:
        return self.delivery is Delivery.REFUSED

    @property
    def accepted(self) -> bool:
        return self.delivery is Delivery.ACCEPTED


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
    the hooks ended. `hook_started` names the hook that was begun at `hook_began` and has no result yet. `force_reason`
    is set once the operation came to the point where force is due, and `obstacle` is what stood in the way
    then, for people. `save_start` is when its memory began to be saved, and `save_failure` why that cannot be done, or
    has failed. `went_down` is how a Reboot's first half ended; `starting` that the VM was told to power on.
    `run_id` is the run of the VM that it is about, where the hypervisor tells runs apart; `ran`: it was not known to be
    off when the operation was accepted, or was seen to run since; `asked_before`: an earlier operation had asked this
    run to go down, which it may still do; `asked_run` is the last run that one had asked and left alone, where the
    hypervisor tells runs apart; `was_saved`: its memory was saved when the operation was accepted, so that its guest
    may obey, once resumed, what it was asked before. `supersedes` are the ids of the operations that were active when
    it came. `boot` is the boot of this machine whose clock its times are of.
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
    save_start: datetime | None = None
    save_failure: str = ""
    decision: Decision | None = None
    hook_started: str = ""
    hook_began: datetime | None = None
    hooks: tuple[HookResult, ...] = ()
    sent: tuple[Sent, ...] = ()
    steps: tuple[Step, ...] = ()
    starting: bool = False
    run_id: str = ""
    ran: bool = False
    asked_before: bool = False
    asked_run: str = ""
    was_saved: bool = False
    supersedes: tuple[str, ...] = ()
    boot: Boot | None = None
    went_down: Verdict | None = None
    verdict: Verdict | None = None
    failure: Failure | None = None

    def moved(self, by: timedelta, boot: Boot) -> Self:
        """With all its times later by so much: the clock that they are of was set, and is now that of `boot`."""
        sent = (each.model_copy(update=_moved(each, by, "time", "handed_over")) for each in self.sent)
        steps = (each.model_copy(update=_moved(each, by, "time", "last_time")) for each in self.steps)
        request = self.request.model_copy(update=_moved(self.request, by, "force_after"))
        own: dict[str, Any] = _moved(self, by, "create_time", "grace_start", "force_after", "save_start", "hook_began")
        if self.went_down:
            own["went_down"] = self.went_down.model_copy(update=_moved(self.went_down, by, "start_time", "end_time"))
        own |= {"boot": boot, "request": request, "sent": tuple(sent), "steps": tuple(steps)}
        return self.model_copy(update=own)

    def with_step(self, step: Step) -> tuple[Step, ...]:
        """Its steps and this one. The same in a row is counted; of very many those in the middle are dropped."""
        *before, last = self.steps or (None,)
        if last and (last.message, last.state) == (step.message, step.state):
            return (*before, last.model_copy(update={"count": last.count + 1, "last_time": step.time}))
        if len(self.steps) >= MOST_STEPS:
            return (*self.steps[:FIRST_STEPS], *self.steps[FIRST_STEPS + 1 :], step)
        return (*self.steps, step)

    @property
    def asked(self) -> Sent | None:
        """The last signal that was not refused: the guest was asked by it, or perhaps was."""
        return next((sent for sent in reversed(self.sent) if not sent.refused), None)

    @property
    def may_run(self) -> bool:
        """Whether it ended and left its VM running, or perhaps so."""
        outcome = self.verdict.outcome if self.verdict else None
        given_up = outcome is Outcome.UNKNOWN and self.state is State.CANCELLED
        return outcome is Outcome.STILL_RUNNING or given_up

    @property
    def next_number(self) -> int:
        return max((sent.number for sent in self.sent), default=0) + 1

    def sent_but(self, number: int, **changes: Any) -> tuple[Sent, ...]:
        """What was sent, with changes in the one of this number."""
        return tuple(sent.model_copy(update=changes) if sent.number == number else sent for sent in self.sent)

    @property
    def escalation(self) -> Escalation:
        """What happens at force_after: what was requested, unless the shutdown was called off, or its memory cannot be
        saved."""
        if self.decision is Decision.CALL_OFF:
            return Escalation.NEVER
        cannot = self.request.escalation is Escalation.SAVE and self.save_failure
        return self.request.save_fallback if cannot else self.request.escalation

    @property
    def hooks_left(self) -> tuple[Hook, ...]:
        return self.request.hooks[len(self.hooks) :]

    @property
    def is_probing(self) -> bool:
        """Whether its VM is on, and is only asked whether it is ready."""
        return self.state is State.RUNNING_HOOKS and any(hook.repeat for hook in self.hooks_left[:1])


def _moved(record: Record, by: timedelta, *fields: str) -> dict[str, Any]:
    times = {field: getattr(record, field) for field in fields}
    return {field: time + by for field, time in times.items() if time is not None}
