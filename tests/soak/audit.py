"""What must hold of every history, whatever was done to it: pure functions from a history to what is wrong with it.

Where two things came at the same moment, or what happened cannot be told from outside, nothing is claimed: what is
found here is wrong.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from tests.soak.history import (
    ABANDONED,
    ENDED_BY_ITSELF,
    Active,
    Call,
    Cut,
    Guest,
    Harm,
    History,
    Run,
    Said,
    Saved,
    Settled,
    Told,
)

BEGINS = {"PowerOn": "POWER_ON", "PowerOff": "POWER_OFF", "Shutdown": "SHUTDOWN", "Reboot": "REBOOT"}
SUPERSEDES = {
    ("POWER_OFF", "SHUTDOWN"),
    ("POWER_OFF", "REBOOT"),
    ("POWER_OFF", "POWER_ON"),
    ("POWER_ON", "SHUTDOWN"),
    ("POWER_ON", "REBOOT"),
}
WENT_DOWN = {"GRACEFUL", "FORCED", "CRASHED", "OUT_OF_BAND", "ALREADY_OFF", "UNKNOWN", "SAVED"}
CAME_UP = {"STARTED", "ALREADY_ON", "UNKNOWN"}
MAY_STILL = "which may still obey"
"""So the verdict of a PowerOn says that the guest had been asked to go down."""
HELD = ("pause", "suspend", "save")
"""What a colleague does to a VM that hears nothing afterwards."""
BY_VMPOWER = "Its memory was saved and it was stopped"
"""So the verdict of a Shutdown begins whose provider knows that it was the one that saved the VM."""
RESUMES = ("on", "resume")
"""What a colleague does to a VM that is saved, so that it cannot be said to be saved."""
ALIKE = 0.1
"""Seconds within which two records of different books are of the same moment."""
DELAY = 3.0
"""Seconds that a message may be under way to a client that is busy."""
SOON = 3.0
"""Seconds in which a provider that nothing was done to knows what happened to a VM."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, when, and with which VM."""

    invariant: str
    vm: str
    at: float
    text: str


@dataclass
class Wish:
    """One request to begin something, with all that came of it. `answered`: when it was first accepted."""

    vm: str
    kind: str
    request_id: str
    sent: float
    last_answer: float
    answered: float | None = None
    operation: str = ""
    timeout: float = 0
    escalation: str = ""
    fallback: str = ""
    hooks: tuple[str, ...] = ()
    told: list[Told] = field(default_factory=list)
    decisions: list[Call] = field(default_factory=list)

    @property
    def final(self) -> Told | None:
        """The first time that its end was told."""
        return next((told for told in self.told if told.final), None)

    def due(self, at: float) -> float:
        """Before this moment it cannot be due to force, by what was promised until then."""
        extensions = [call.extension for call in self.accepted("ExtendOperation") if call.sent <= at]
        return self.sent + self.timeout + sum(extensions)

    def accepted(self, method: str) -> list[Call]:
        return [call for call in self.decisions if call.method == method and call.accepted]

    def possible(self, method: str) -> list[Call]:
        """Those that were accepted, or may have been."""
        return [call for call in self.decisions if call.method == method and (call.accepted or call.unknown)]


class Books:
    """A history, looked up by VM."""

    def __init__(self, history: History) -> None:
        records = history.records
        self.calls = [record for record in records if isinstance(record, Call)]
        self.told = sorted((record for record in records if isinstance(record, Told)), key=lambda told: told.at)
        self.harms = [record for record in records if isinstance(record, Harm)]
        self.cuts = [record for record in records if isinstance(record, Cut)]
        self.runs = sorted((record for record in records if isinstance(record, Run)), key=lambda run: run.began)
        self.saves = [record for record in records if isinstance(record, Saved)]
        self.active = [record for record in records if isinstance(record, Active)]
        self.said = {record.token: record.times for record in records if isinstance(record, Said)}
        self.guests = {record.vm: record for record in records if isinstance(record, Guest)}
        self.settled = next((record for record in records if isinstance(record, Settled)), None)
        self.wishes = _wishes(self.calls, self.told)

    def runs_of(self, vm: str) -> list[Run]:
        return [run for run in self.runs if run.vm == vm]

    def wishes_on(self, vm: str) -> list[Wish]:
        return [wish for wish in self.wishes if wish.vm == vm]

    def saves_of(self, vm: str, since: float, until: float) -> list[Saved]:
        """Those that were under way, or whose memory was kept, at any moment of that time."""
        blur = self.blur(vm)
        return [
            save
            for save in self.saves
            if save.vm == vm and save.began <= until + blur and (save.ended is None or save.ended >= since - blur)
        ]

    def is_saved(self, vm: str, at: float) -> bool:
        """Whether its memory was saved and it ran nowhere, for some time before this moment and after it."""
        return any(
            save.at < at - ALIKE and (save.ended is None or save.ended > at + ALIKE)
            for save in self.saves_of(vm, at, at)
        )

    def saved_throughout(self, vm: str, since: float, until: float) -> bool:
        """Whether its memory was saved and it ran nowhere in all of that time."""
        blur = self.blur(vm)
        saves = self.saves_of(vm, since, until)
        return any(save.at < since - blur and (save.ended is None or save.ended > until + blur) for save in saves)

    def blur(self, vm: str) -> float:
        """Seconds within which two records of this VM are of the same moment."""
        return ALIKE + (self.guests[vm].blur if vm in self.guests else 0)

    def ran(self, run: Run, at: float) -> bool:
        """Whether this run went on at that moment."""
        return run.began - self.blur(run.vm) + ALIKE <= at and (run.ended is None or at <= run.ended + ALIKE)

    def on_sometime(self, vm: str, since: float, until: float) -> bool:
        """Whether the VM ran at any moment of that time."""
        blur = self.blur(vm)
        return any(
            run.began <= until + blur and (run.ended is None or run.ended >= since - blur) for run in self.runs_of(vm)
        )

    def off_sometime(self, vm: str, since: float, until: float) -> bool:
        """Whether there was any moment of that time at which it did not run."""
        blur = self.blur(vm)
        covered = since - blur
        for run in self.runs_of(vm):
            if run.began > covered + 1e-6:
                return covered <= until + blur
            covered = max(covered, float("inf") if run.ended is None else run.ended)
        return covered <= until + blur

    def harmed(self, vm: str, what: Sequence[str], since: float, until: float) -> bool:
        """Whether one of these harms (by their first word) was done to the VM in that time."""
        return any(
            harm.vm == vm
            and harm.what.split()[0] in what
            and harm.begun <= until + ALIKE
            and harm.ended >= since - ALIKE
            for harm in self.harms
        )

    def disturbed(self, since: float, until: float, by: Sequence[str] = ()) -> bool:
        """Whether anything was done to the provider or the hypervisor as a whole; or one of these harms, by their first
        word."""
        return any(
            not harm.vm and harm.begun <= until and harm.ended >= since and (not by or harm.what.split()[0] in by)
            for harm in self.harms
        )


def audit(history: History) -> list[Finding]:
    """All that is wrong, in the order of time."""
    books = Books(history)
    found = [Finding(check.__name__.replace("_", " "), *each) for check in INVARIANTS for each in check(books)]
    return sorted(found, key=lambda finding: finding.at)


Findings = Iterator[tuple[str, float, str]]
"""The VM, the moment, what is wrong."""


def no_vm_is_cut_unless_it_is_due_or_asked_for(books: Books) -> Findings:
    """By a clock that does not step; and no other run than the one that the operation began with."""
    for cut in books.cuts:
        run = next((run for run in books.runs_of(cut.vm) if books.ran(run, cut.at)), None)
        wishes = [wish for wish in books.wishes_on(cut.vm) if wish.sent <= cut.at + ALIKE]
        if run and not any(_justifies(books, wish, cut, run) for wish in wishes):
            last = max(wishes, key=lambda wish: wish.sent, default=None)
            why = (
                f"its last request was {_name(last)}, due {last.due(cut.at) - cut.at:+.3f} s from then"
                if last
                else "no request"
            )
            yield cut.vm, cut.at, f"cut, though {why}"


def no_memory_is_saved_unless_it_is_due(books: Books) -> Findings:
    """And a request asked for that; for its VM stops, as it does when it is cut."""
    for save in books.saves:
        run = next((run for run in books.runs_of(save.vm) if books.ran(run, save.began)), None)
        wishes = [wish for wish in books.wishes_on(save.vm) if wish.sent <= save.began + ALIKE]
        if save.by == "PROVIDER" and run and not any(_justifies_saving(books, wish, save, run) for wish in wishes):
            last = max(wishes, key=lambda wish: wish.sent, default=None)
            why = f"its last request was {_name(last)} {last.escalation}" if last else "no request"
            yield save.vm, save.began, f"its memory was saved, though {why}"


def saved_memory_is_resumed(books: Books) -> Findings:
    """Whoever starts a VM that is saved: what is booted instead has lost what was kept. Who discards it, cuts it."""
    for save in books.saves:
        if save.lost:
            yield save.vm, save.ended or save.at, "its memory was saved, and it was booted without it"


def every_accepted_operation_ends_in_one_verdict(books: Books) -> Findings:
    """Once it is told it never changes, and nothing else is told after it."""
    for wish in books.wishes:
        final = wish.final
        if final is None:
            if wish.answered is not None and books.settled:
                yield wish.vm, wish.sent, f"{_name(wish)} was accepted and has no verdict"
            continue
        for told in wish.told:
            if told.final and told.ending != final.ending:
                yield wish.vm, told.at, f"{_name(wish)} ended {_end(final)}, and later {_end(told)}"
                break
            elif not told.final and told.at > final.at + DELAY:
                yield wish.vm, told.at, f"{_name(wish)} ended {_end(final)}, and later stands in {told.state}"
                break


def one_request_is_one_operation(books: Books) -> Findings:
    """However often it is sent."""
    for wish in books.wishes:
        if len(began := {told.operation for told in books.told if told.request_id == wish.request_id}) > 1:
            yield wish.vm, wish.sent, f"{wish.kind} {wish.request_id} began {len(began)} operations: {sorted(began)}"


def verdicts_are_true(books: Books) -> Findings:
    """By the hypervisor's record and the guest's console."""
    for wish in books.wishes:
        if (final := wish.final) and (wrong := _untrue(books, wish, final)):
            yield wish.vm, final.at, f"{_name(wish)} is told as {_end(final)} ({final.message}), but {wrong}"


def what_can_be_known_is_told(books: Books) -> Findings:
    """Not to know is for those who were kept from looking."""
    for wish in books.wishes:
        final = wish.final
        if final is None or final.outcome != "UNKNOWN":
            continue
        since = wish.sent - 2 * SOON
        if not any(harm.vm in ("", wish.vm) and harm.begun <= final.at and harm.ended >= since for harm in books.harms):
            yield wish.vm, final.at, f"{_name(wish)} ended {_end(final)} ({final.message}), and nothing was done to it"


def hooks_run_at_most_once(books: Books) -> Findings:
    """And what is told of them is so."""
    for wish in books.wishes:
        states = dict(wish.final.hooks) if wish.final else {}
        for token in wish.hooks:
            times = books.said.get(token, 0)
            if times > 1:
                yield wish.vm, wish.sent, f"hook {token} of {_name(wish)} ran {times} times"
            if states.get(token) == "SUCCEEDED" and times == 0:
                yield wish.vm, wish.sent, f"hook {token} of {_name(wish)} is told as SUCCEEDED and never ran"
            if states.get(token) == "SKIPPED" and times:
                yield wish.vm, wish.sent, f"hook {token} of {_name(wish)} is told as SKIPPED and ran"


def one_operation_is_active_on_a_vm(books: Books) -> Findings:
    """Beside one that it supersedes, until that has ended."""
    for answer in books.active:
        for one, other in combinations(answer.operations, 2):
            if not _supersede(one[1], other[1]):
                yield answer.vm, answer.at, f"{one[1]} {one[0][:8]} and {other[1]} {other[0][:8]} are active at once"
    for wish in books.wishes:
        for later in books.wishes_on(wish.vm):
            if later.answered is None or later.sent <= wish.last_answer or _supersede(later.kind, wish.kind):
                continue
            if told := next((t for t in wish.told if not t.final and t.at > later.answered + DELAY), None):
                yield wish.vm, told.at, f"{_name(wish)} is active, and so is {_name(later)}, accepted after it"


def accepted_decisions_hold(books: Books) -> Findings:
    """An accepted Force leaves no VM running, and an accepted Cancel forces and saves none, if it came well before it
    was due.

    Extensions count with the cuts.
    """
    for wish in books.wishes:
        final = wish.final
        if final is None:
            continue
        for call in wish.accepted("ForceOperation"):
            spared = books.harmed(wish.vm, ("fault",), wish.sent, final.at) or any(
                other.kind == "POWER_ON" and wish.sent < other.last_answer for other in books.wishes_on(wish.vm)
            )
            if final.outcome == "STILL_RUNNING" and not spared:
                yield wish.vm, call.sent, f"ForceOperation of {_name(wish)} was accepted; it ended {_end(final)}"
        for call in wish.accepted("CancelOperation"):
            ended = (final.outcome, final.reason)
            if ended in (("FORCED", "TIMEOUT"), ("SAVED", "TIMEOUT")) and call.sent + SOON < wish.due(call.sent):
                yield wish.vm, call.sent, f"CancelOperation of {_name(wish)} was accepted; it ended {_end(final)}"


def vms_end_as_they_were_last_wished(books: Books) -> Findings:
    """If the last request that was accepted is said to have succeeded, and nobody else did anything since."""
    if books.settled is None:
        return
    for vm in books.guests:
        begun = [wish for wish in books.wishes_on(vm) if wish.operation or wish.answered is not None]
        if not begun:
            continue
        last = max(begun, key=lambda wish: wish.sent)
        concurrent = any(wish is not last and wish.last_answer > last.sent for wish in begun)
        meddled = any(harm.vm == vm and harm.ended > last.sent - ALIKE for harm in books.harms)
        if concurrent or meddled or _was_on_its_way(books, last) or last.final is None:
            continue
        if last.final.state != "SUCCEEDED":
            continue
        end = books.settled.at
        wanted = (
            "runs" if last.kind in ("POWER_ON", "REBOOT") else "is saved" if last.final.outcome == "SAVED" else "is off"
        )
        on = any(run.began <= end and (run.ended is None or run.ended > end) for run in books.runs_of(vm))
        is_ = "is off" if not on else "is saved" if books.is_saved(vm, end) else "runs"
        if is_ != wanted:
            yield vm, end, f"{_name(last)} ended {_end(last.final)}, and in the end it {is_}"


def _was_on_its_way(books: Books, wish: Wish) -> bool:
    """Whether this request let a guest go on that may still go down, as nobody can take that back: somebody had told it
    so from inside, or had held it on its way after it was asked; or it had been asked, outlasted the watch for that,
    and the verdict says so."""
    for run in books.runs_of(wish.vm):
        if run.began < wish.sent < (run.ended or wish.sent):
            held = run.heard and _was_held(books, wish.vm, run.heard[0][0], wish.sent)
            final = wish.final
            said = run.heard and final and MAY_STILL in final.message and (run.ended or final.at) > final.at - DELAY
            if held or said or books.harmed(wish.vm, ("poweroff",), run.began, wish.sent):
                return True
    return False


def _was_held(books: Books, vm: str, since: float, until: float) -> bool:
    """Whether a colleague held it, or its memory was saved by whomever, in that time."""
    return books.harmed(vm, HELD, since, until) or bool(books.saves_of(vm, since, until))


def settled_systems_are_quiet(books: Books) -> Findings:
    """Nothing is asked of the hypervisor when nothing is to be done."""
    if books.settled and books.settled.calls[0] != books.settled.calls[1]:
        before, after = books.settled.calls
        yield "", books.settled.at, f"{after - before} calls to the hypervisor after all had ended"


def refusals_are_explained(books: Books) -> Findings:
    """With code and reason, unless the connection broke because of what was done to the provider."""
    for call in books.calls:
        if (
            call.accepted
            or call.code == ABANDONED
            or (call.unknown and books.disturbed(call.sent - SOON, call.answered + DELAY))
        ):
            continue
        if not call.reason or (call.code in ("INTERNAL", "UNKNOWN") and call.reason != "JOURNAL_FAILED"):
            yield call.vm, call.sent, f"{call.method} was refused with {call.code} {call.reason or 'and no reason'}"


def providers_go_on(books: Books) -> Findings:
    """None ends by itself, whatever is done around it; one that cannot start without a disk is not meant."""
    for harm in books.harms:
        if harm.what == ENDED_BY_ITSELF:
            yield "", harm.begun, harm.what


INVARIANTS: Sequence[Callable[[Books], Findings]] = (
    no_vm_is_cut_unless_it_is_due_or_asked_for,
    no_memory_is_saved_unless_it_is_due,
    saved_memory_is_resumed,
    every_accepted_operation_ends_in_one_verdict,
    one_request_is_one_operation,
    verdicts_are_true,
    what_can_be_known_is_told,
    hooks_run_at_most_once,
    one_operation_is_active_on_a_vm,
    accepted_decisions_hold,
    vms_end_as_they_were_last_wished,
    settled_systems_are_quiet,
    refusals_are_explained,
    providers_go_on,
)


def _wishes(calls: Sequence[Call], told: Sequence[Told]) -> list[Wish]:
    wishes: dict[str, Wish] = {}
    for call in sorted(calls, key=lambda call: call.sent):
        if call.method in BEGINS and (call.accepted or call.unknown or call.request_id in wishes):
            new = Wish(call.vm, BEGINS[call.method], call.request_id, call.sent, call.answered)
            wish = wishes.setdefault(call.request_id, new)
            wish.timeout, wish.hooks = call.timeout, call.hooks
            wish.escalation, wish.fallback = call.escalation, call.fallback
            wish.last_answer = max(wish.last_answer, call.answered)
            if call.accepted:
                wish.operation = call.operation
                wish.answered = wish.answered or call.answered
    for each in told:
        if wish_ := wishes.get(each.request_id):
            wish_.operation = wish_.operation or each.operation
            wish_.told.append(each)
    by_operation = {wish.operation: wish for wish in wishes.values() if wish.operation}
    for call in calls:
        if call.method not in BEGINS and (decided := by_operation.get(call.operation)):
            decided.decisions.append(call)
    return list(wishes.values())


def _justifies(books: Books, wish: Wish, cut: Cut, run: Run) -> bool:
    """Whether this request is reason enough for the cut."""
    if wish.kind == "POWER_ON" or (wish.final and wish.final.at < cut.at - ALIKE):
        return False
    if wish.kind == "POWER_OFF":
        return True
    began = run.began - books.blur(cut.vm)
    if any(began <= call.sent <= cut.at + ALIKE for call in wish.possible("ForceOperation")):
        return True
    if any(call.answered < cut.at - ALIKE for call in wish.accepted("CancelOperation")):
        return False
    if began > wish.last_answer or not _may_force(books, wish, cut, run) or _called_off(books, wish, cut.at):
        return False
    return wish.due(cut.at) <= cut.at + ALIKE or _deaf(books, wish, cut, run)


def _may_force(books: Books, wish: Wish, cut: Cut, run: Run) -> bool:
    """Whether it says so, or says so for memory that cannot be saved, and this could not, and is not saved."""
    if wish.escalation != "SAVE" or wish.fallback != "FORCE":
        return wish.escalation == "FORCE"
    hindered = books.harmed(cut.vm, ("fault", *RESUMES), max(run.began, wish.sent), cut.at)
    return (not books.guests[cut.vm].savable or hindered) and not books.is_saved(cut.vm, cut.at - 2 * ALIKE)


def _justifies_saving(books: Books, wish: Wish, save: Saved, run: Run) -> bool:
    """Whether this request is reason enough to save the VM's memory from then on."""
    if wish.escalation != "SAVE" or (wish.final and wish.final.at < save.began - ALIKE):
        return False
    if any(call.answered < save.began - ALIKE for call in wish.accepted("CancelOperation")):
        return False
    if run.began - books.blur(save.vm) > wish.last_answer or _called_off(books, wish, save.began):
        return False
    guest = books.guests[save.vm]
    hindered = books.harmed(save.vm, (*HELD, "fault"), run.began, save.began)
    return wish.due(save.began) <= save.began + ALIKE or not guest.hears or guest.refuses or hindered


def _called_off(books: Books, wish: Wish, at: float) -> bool:
    """Whether a PowerOn was accepted before force, or saving, was due, or was told to have begun: a guest that hears
    nothing is forced at once."""
    forcing = min((told.at for told in wish.told if told.state in ("FORCING", "SAVING")), default=at)
    before = min(wish.due(at), at - ALIKE, forcing)
    return any(
        other.kind == "POWER_ON"
        and other.answered is not None
        and wish.sent < other.sent
        and (wish.answered or wish.sent) < other.answered < before
        for other in books.wishes_on(wish.vm)
    )


def _deaf(books: Books, wish: Wish, cut: Cut, run: Run) -> bool:
    """Whether there was nothing to wait for: a guest that hears nothing, or refused everything, is cut at once."""
    guest, reason = books.guests[cut.vm], wish.final.reason if wish.final else ""
    held = books.harmed(cut.vm, HELD, run.began, cut.at) or bool(books.saves_of(cut.vm, wish.sent, cut.at))
    deaf = not guest.hears
    refused = guest.refuses or books.harmed(cut.vm, ("fault",), run.began, cut.at)
    match reason:
        case "PAUSED" | "SUSPENDED":
            return held
        case "TOOLS_UNAVAILABLE":
            return deaf or guest.refuses
        case "COMMAND_FAILED":
            return refused
        case "":
            return held or deaf or refused
    return False


def _untrue(books: Books, wish: Wish, final: Told) -> str:
    """What is wrong with this verdict; empty: nothing."""
    blur = books.blur(wish.vm)
    since = _began(books, wish, final) - ALIKE - books.guests[wish.vm].lag
    ended = [run for run in books.runs_of(wish.vm) if run.ended is not None and since <= run.ended <= final.at + blur]
    if final.outcome in ENDINGS and not any(ENDINGS[final.outcome](books, run) for run in ended):
        if final.outcome == "OUT_OF_BAND" and _had_ended(books, wish, final):
            return ""
        seen = [f"a run that began {run.began:.3f} ended {run.ended:.3f} by {_or(run)}" for run in ended]
        return f"by the hypervisor and the console: {'; '.join(seen) or 'no run of it ended'}"
    if final.signal and not any(_heard(books, run, final) for run in ended):
        return f"the guest heard no {final.signal}"
    if final.state == "SUCCEEDED" and final.outcome not in (CAME_UP if wish.kind == "POWER_ON" else WENT_DOWN):
        return f"that is not what a {wish.kind} is for"
    if wish.kind == "REBOOT" and final.state == "SUCCEEDED":
        went_down = ended if final.outcome != "ALREADY_OFF" else []  # what has ended since is what it has started
        if not _started_again(books, wish, final, went_down):
            return "it was not started again"
    return _not_so(books, wish, final)


def _started_again(books: Books, wish: Wish, final: Told, went_down: list[Run]) -> bool:
    """Whether a run began once the VM was down, however soon the next request ended it. The runs of a VM are of one
    book, so no blur is between them."""
    if went_down:
        down = min(run.ended for run in went_down if run.ended is not None)
        return any(down <= run.began <= final.at + books.blur(wish.vm) for run in books.runs_of(wish.vm))
    return books.on_sometime(wish.vm, wish.sent + 2 * books.blur(wish.vm), final.at)


def _began(books: Books, wish: Wish, final: Told) -> float:
    """From when on the end of a run may be meant. A PowerOff may tell how its VM went off under the operation that it
    has superseded, which had not ended when it was sent: its provider may have been kept from seeing the run's end."""
    begins = [wish.sent]
    if wish.kind == "POWER_OFF" and "went off before that" in final.message:
        for other in books.wishes_on(wish.vm):
            active = other.sent < wish.sent and other.final is not None and wish.sent <= other.final.at <= final.at
            if active and _supersede(wish.kind, other.kind) and other.final and other.final.outcome == final.outcome:
                begins.append(other.sent)
    return min(begins)


def _had_ended(books: Books, wish: Wish, final: Told) -> bool:
    """Whether it had gone off just before the request, which its provider had not seen by then and could not look at
    at once: to say no more than that it went off before it was asked is true, whoever ended it."""
    unseen = books.guests[wish.vm].unseen
    blind = books.disturbed(wish.sent, final.at, by=("provider", "no"))
    said = "before it was asked" in final.message
    return (
        blind
        and said
        and any(run.ended and wish.sent - unseen <= run.ended <= wish.sent for run in books.runs_of(wish.vm))
    )


def _not_so(books: Books, wish: Wish, final: Told) -> str:
    lag = books.guests[wish.vm].lag
    match final.outcome:
        case "ALREADY_OFF" if not books.off_sometime(wish.vm, wish.sent, final.at):
            return "it was on all the time"
        case "SAVED" if wrong := _not_saved(books, wish, final):
            return wrong
        case "STARTED" | "ALREADY_ON" if books.saved_throughout(wish.vm, wish.sent - lag, final.at):
            return "its memory was saved all the time"
        case "STARTED" | "ALREADY_ON" if not books.on_sometime(wish.vm, wish.sent - lag, final.at):
            return "it was off all the time"
        case "STILL_RUNNING" if not books.on_sometime(wish.vm, max(wish.sent, final.at - SOON) - lag, final.at):
            last = max((run.ended or 0 for run in books.runs_of(wish.vm)), default=wish.sent)
            if not books.disturbed(last - SOON, final.at):
                return f"it was off for {final.at - last:.1f} s"
    return ""


def _not_saved(books: Books, wish: Wish, final: Told) -> str:
    """What is wrong with the saying that its memory is saved; empty: nothing. When what a colleague has suspended
    ends is not in the books."""
    vm, blur = wish.vm, books.blur(wish.vm)
    saves = [save for save in books.saves_of(vm, wish.sent, final.at) if _came_to_be(save, final.at + blur)]
    if final.message.startswith(BY_VMPOWER):
        own = [save for save in saves if save.by == "PROVIDER" and save.at >= wish.sent - blur]
        return "" if own else "the provider did not save its memory"
    suspended = any(
        run.began <= final.at and books.harmed(vm, ("suspend",), run.began, final.at) for run in books.runs_of(vm)
    )
    return "" if saves or suspended else "its memory was not saved"


def _came_to_be(save: Saved, until: float) -> bool:
    """Whether its memory was saved by then."""
    return save.at <= until and (save.ended is None or save.ended >= save.at - ALIKE)


def _graceful(books: Books, run: Run) -> bool:
    return "GUEST" in run.causes and (bool(run.heard) or _typed(books, run))


def _out_of_band(books: Books, run: Run) -> bool:
    return "OTHER" in run.causes or ("GUEST" in run.causes and (not run.heard or _typed(books, run)))


ENDINGS: dict[str, Callable[[Books, Run], bool]] = {
    "GRACEFUL": _graceful,
    "FORCED": lambda _, run: "PROVIDER" in run.causes,
    "CRASHED": lambda _, run: "CRASH" in run.causes,
    "OUT_OF_BAND": _out_of_band,
}
"""Whether a run of the VM may have ended in this way."""


def _typed(books: Books, run: Run) -> bool:
    """Whether it was told to go down from inside, too, so that it did not react to what it was asked."""
    return books.harmed(run.vm, ("poweroff",), run.began, run.ended or run.began)


def _heard(books: Books, run: Run, final: Told) -> bool:
    """Whether it heard the signal that has the credit, or one of those that share it, be it an earlier operation's."""
    shared = bool(run.heard) and "an earlier operation" in final.message
    return (
        shared or any(heard == final.signal or heard in final.message for _, heard in run.heard) or _typed(books, run)
    )


def _supersede(one: str, other: str) -> bool:
    return (one, other) in SUPERSEDES or (other, one) in SUPERSEDES


def _name(wish: Wish) -> str:
    return f"{wish.kind} {wish.operation[:8] or wish.request_id}"


def _end(told: Told) -> str:
    return " ".join(part for part in (told.state, told.outcome, told.reason, told.signal) if part)


def _or(run: Run) -> str:
    return " or ".join(run.causes) or "nobody knows whom"
