"""What happened in one history, as everybody who was there wrote it down: clients, the hypervisor, who did the harm.

All moments are seconds of CLOCK_BOOTTIME, which no step of the wall clock moves; the provider's own moments, which it
does move, are not kept.
"""

import dataclasses
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Cause = Literal["GUEST", "PROVIDER", "OTHER", "CRASH"]
ABANDONED = "ABANDONED"
"""The code of a call whose client did not stay for the answer."""
ENDED_BY_ITSELF = "the provider had ended by itself"
FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})


def now() -> float:
    """This moment."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Told:
    """An operation as the provider told it: to a watcher, or in an answer.

    `ending` is state, verdict and error of one that has ended, byte by byte. `hooks` are names and states, `steps`
    the sentences that were not told before.
    """

    at: float
    operation: str
    vm: str
    kind: str
    state: str
    request_id: str = ""
    outcome: str = ""
    reason: str = ""
    signal: str = ""
    message: str = ""
    hooks: tuple[tuple[str, str], ...] = ()
    steps: tuple[str, ...] = ()
    ending: str = ""

    @property
    def final(self) -> bool:
        return self.state in FINAL


@dataclass(frozen=True)
class Call:
    """One request and its answer. `code` is gRPC's; `reason` that of ErrorInfo, empty if there was none.

    `vm` is a name. `operation` is the one it began or concerns. `timeout`, `extension`: seconds. `hooks`: their tokens.
    """

    sent: float
    answered: float
    method: str
    vm: str
    code: str = "OK"
    reason: str = ""
    operation: str = ""
    request_id: str = ""
    timeout: float = 0
    extension: float = 0
    escalation: str = ""
    fallback: str = ""
    hooks: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        return self.code == "OK"

    @property
    def unknown(self) -> bool:
        """Whether it may have been accepted, though no answer came."""
        return not self.reason and self.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", ABANDONED}


@dataclass(frozen=True)
class Active:
    """The operations that the provider told as active on one VM, in one answer, and their kinds."""

    at: float
    vm: str
    operations: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Harm:
    """What was done to it all. `vm` empty: to the provider, its disk or clock, or the whole hypervisor."""

    begun: float
    ended: float
    what: str
    vm: str = ""


@dataclass(frozen=True)
class Cut:
    """The provider told the hypervisor to cut a VM that ran."""

    at: float
    vm: str


@dataclass(frozen=True)
class Saved:
    """A VM's memory was being saved from `began` on, and was saved at `at`, if that is not after `ended`.

    `ended`: when the VM was resumed, or its memory discarded; None: neither. `by`: who began it. `lost`: the VM was
    booted instead of resumed.
    """

    began: float
    at: float
    vm: str
    by: Literal["PROVIDER", "OTHER"] = "PROVIDER"
    ended: float | None = None
    lost: bool = False


@dataclass(frozen=True)
class Run:
    """One run of a VM, by the hypervisor's own record and the guest's console; it goes on while its memory is
    saved.

    `causes`: who may have ended it; more than one where two came at the same moment. `heard`: when the guest said that
    it was asked, and by which signal.
    """

    vm: str
    began: float
    ended: float | None = None
    causes: tuple[Cause, ...] = ()
    heard: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Said:
    """How often a hook's token was seen where the hook leaves it: on the guest's console, or at the web server."""

    token: str
    times: int


@dataclass(frozen=True)
class Settled:
    """The end. `calls`: so many the hypervisor had from the provider, and so many a while later."""

    at: float
    calls: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Guest:
    """What one must know of a guest to judge. `hears`: it is offered a signal while it runs, so it has its time.

    `refuses`: it has one signal only, which it refuses, and lacks while it boots. `blur`: so many
    seconds late its runs may have been seen to begin and end. `lag`: so many seconds later its hypervisor may tell.
    `unseen`: so many seconds later its provider may find that it is off, while no operation is active on it.
    `savable`: its hypervisor can save its memory.
    """

    vm: str
    hears: bool = True
    refuses: bool = False
    blur: float = 0
    lag: float = 0
    unseen: float = 0
    savable: bool = True


Record = Told | Call | Active | Harm | Cut | Saved | Run | Said | Settled | Guest
KINDS = {kind.__name__: kind for kind in (Told, Call, Active, Harm, Cut, Saved, Run, Said, Settled, Guest)}


@dataclass
class History:
    """Everything, in the order in which it was written down."""

    records: list[Record] = field(default_factory=list)

    def add(self, record: Record) -> None:
        self.records.append(record)

    def save(self, path: Path) -> None:
        """A line for each record."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            for record in self.records:
                file.write(json.dumps({"record": type(record).__name__, **dataclasses.asdict(record)}) + "\n")


def load(path: Path) -> History:
    """What `save` wrote."""
    return History([_record(json.loads(line)) for line in path.read_text().splitlines()])


def describe(records: Iterable[Record], vm: str, since: float) -> list[str]:
    """What concerns one VM, in order of time, for people; moments are seconds after `since`."""
    own = [record for record in records if getattr(record, "vm", "") in (vm, "")]
    lines = [(moment(record), _line(record)) for record in own if not isinstance(record, Settled | Guest | Said)]
    return [f"{at - since:8.3f}  {text}" for at, text in sorted(lines)]


def moment(record: Record) -> float:
    """When it was; of what took time, when it began."""
    match record:
        case Call(sent=at) | Harm(begun=at) | Run(began=at) | Saved(began=at):
            return at
        case Told(at=at) | Active(at=at) | Cut(at=at) | Settled(at=at):
            return at
    return 0


def _line(record: Record) -> str:
    text = ""
    match record:
        case Call():
            falls_back = f"or {record.fallback}" if record.fallback else ""
            parts = [f"timeout {record.timeout:g}" if record.timeout else "", record.escalation, falls_back]
            parts += [f"by {record.extension:g}" if record.extension else "", *record.hooks, "->", record.code]
            parts += [record.reason, record.operation[:8], f"after {record.answered - record.sent:.3f} s"]
            text = f"client: {record.method} {' '.join(part for part in parts if part)}"
        case Told():
            verdict = " ".join(part for part in (record.outcome, record.reason, record.signal) if part)
            steps = "; ".join(record.steps)
            text = f"told: {record.kind} {record.operation[:8]} {record.state} {verdict} {steps}"
        case Harm():
            text = f"harm: {record.what} until +{record.ended - record.begun:.3f} s"
        case Run():
            asked = ", ".join(f"{signal} +{at - record.began:.3f} s" for at, signal in record.heard)
            end = "runs on" if record.ended is None else f"ended +{record.ended - record.began:.3f} s {record.causes}"
            text = f"hypervisor: a run begins; {end}; asked: {asked or 'never'}"
        case Cut():
            text = "hypervisor: told by the provider to cut it"
        case Saved():
            end = "" if record.ended is None else f", until +{record.ended - record.began:.3f} s"
            lost = ", and lost" if record.lost else ""
            text = f"hypervisor: {record.by} saves it, saved +{record.at - record.began:.3f} s{end}{lost}"
        case Active():
            text = f"told: active are {[(name[:8], kind) for name, kind in record.operations]}"
    return text


def _record(fields: dict[str, Any]) -> Record:
    kind = KINDS[fields.pop("record")]
    plain: Record = kind(**{name: _frozen(value) for name, value in fields.items()})
    return plain


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value
