from collections.abc import Sequence
from datetime import timedelta

import pytest
from rich.console import Console

from cli.errors import ExitCode
from cli.plans import exit_code, line, report_tree
from plans.frozen import FrozenTier, Target
from plans.history import (
    Aborted,
    BringUpBegan,
    BringUpStopped,
    BroughtDown,
    Closed,
    Event,
    History,
    Inherited,
    Released,
    Shortened,
    Start,
    Stopped,
    TakenOver,
    TierBegan,
    TierOver,
    VMEnded,
    VMUp,
)
from plans.model import PlanSpec
from tests.unit.cli.samples import BEGAN

MINUTE = timedelta(minutes=1)
LATER = BEGAN + timedelta(seconds=90)
SPEC = PlanSpec.model_validate({"budget": {"total": "10m"}, "tiers": [{"name": "a", "members": [{"vms": ["lab/x"]}]}]})
WEB, DB = (Target(provider="lab", vm=f"id-{name}", name=name, runs=True, need=MINUTE) for name in ("web", "db"))
TIERS = FrozenTier(name="a", targets=(WEB,)), FrozenTier(name="b", targets=(DB,), after=("a",))
START = Start(run="night-1", plan="night", spec=SPEC, tiers=TIERS, at=BEGAN, ends=BEGAN + 10 * MINUTE)


def tier(name: str) -> TierBegan:
    return TierBegan(tier=name, at=BEGAN, gets=MINUTE)


def down(target: Target, outcome: str = "GRACEFUL", *, off: bool = True, tier: str = "a") -> VMEnded:
    at = BEGAN + timedelta(seconds=3)
    return VMEnded(tier=tier, vm=target.key, at=at, outcome=outcome, off=off, message="So it was.")


def history(*events: Event) -> History:
    made = History(START)
    for event in events:
        made.note(event)
    return made


def shown(*events: Event) -> Sequence[str]:
    console = Console(width=200)
    with console.capture() as printed:
        console.print(report_tree(history(*events)))
    return printed.get().splitlines()


def closed(seconds: float) -> Closed:
    return Closed(at=BEGAN + timedelta(seconds=seconds))


def test_a_run_under_way_says_when_its_budget_is_over() -> None:
    assert shown()[0].startswith("night-1: began at ")
    assert ", under way, its budget is over at " in shown()[0]


def test_a_run_that_is_aborted_and_under_way_still_says_both() -> None:
    told = shown(tier("a"), Aborted(at=BEGAN))
    assert ", aborted, still under way, its budget is over at " in told[0]
    assert told[3] == "└── b, after a: did not begin"


def test_a_tier_and_a_vm_under_way_are_told_so() -> None:
    assert shown(tier("a"))[1:3] == [
        "├── a: began after 0.0 s, had 1 min 00 s, under way; critical",
        "│   └── lab/web: under way",
    ]


def test_what_did_not_begin_is_told_so() -> None:
    told = shown(tier("a"), Stopped(tier="a", at=BEGAN), BroughtDown(at=BEGAN))
    assert told[3:] == ["└── b, after a: did not begin", "    └── lab/db: was not asked"]


def test_a_tier_that_is_still_to_begin_has_its_place_and_its_slack() -> None:
    assert (
        shown(tier("a"))[3] == "└── b, after a: begins after 1 min 00 s, has 1 min 00 s, 7 min 55 s to spare; critical"
    )


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (BringUpBegan(at=BEGAN), "what it stopped comes up again"),
        (BringUpStopped(tier="b", at=BEGAN), "tier b has Stop and was not ready in time: nothing more comes up"),
        (TakenOver(at=BEGAN, by="fire"), "run fire takes it over"),
        (Inherited(vm=WEB.key, at=BEGAN), "lab/web: an earlier run had stopped it; it comes up with this one"),
        (Released(at=BEGAN), "its VMs are released"),
    ],
)
def test_what_happens_after_a_run_is_told(event: Event, text: str) -> None:
    assert line(history(), event) == text


def test_a_run_that_took_longer_than_its_budget_says_so() -> None:
    assert shown(closed(601))[0] == "night-1: done after 10 min 01 s, after its budget was over"


def test_a_run_that_was_left_says_why_and_promises_nothing_more() -> None:
    left = Closed(at=BEGAN + timedelta(hours=3), message="No process carried it out to its end.")
    assert shown(tier("a"), left) == [
        "night-1: left after 3 h 00 min, after its budget was over: No process carried it out to its end.",
        "├── a: began after 0.0 s, had 1 min 00 s",
        "│   └── lab/web: what became of it is not known",
        "└── b, after a: did not begin",
        "    └── lab/db: was not asked",
    ]


def test_what_comes_up_with_a_run_that_had_not_asked_it_is_told() -> None:
    inherited, up = Inherited(vm=DB.key, at=BEGAN), VMUp(tier="b", vm=DB.key, at=BEGAN, ready=True)
    assert shown(tier("a"), closed(60), inherited, up)[-1] == "    └── lab/db: was not asked. Up again."


@pytest.mark.parametrize(("event", "word"), [(Aborted(at=BEGAN), "aborted"), (Stopped(tier="a", at=BEGAN), "stopped")])
def test_a_run_that_did_not_go_to_its_end_says_why(event: Event, word: str) -> None:
    assert shown(event, closed(60))[0] == f"night-1: {word} after 1 min 00 s, 9 min 00 s before its budget was over"


def test_a_run_that_was_shortened_says_when_and_why_and_is_held_to_its_shorter_budget() -> None:
    short = Shortened(at=BEGAN + timedelta(seconds=20), ends=BEGAN + timedelta(seconds=90), why="ups1 lasts 2 min")
    assert shown(short, closed(60))[:2] == [
        "night-1: done after 1 min 00 s, 30.0 s before its budget was over",
        "├── shortened after 20.0 s: ups1 lasts 2 min",
    ]


def test_a_vm_whose_turn_to_come_up_has_not_come_is_told() -> None:
    stopped = down(WEB).model_copy(update={"stopped": True})
    told = shown(tier("a"), stopped, tier("b"), down(DB, tier="b"), BringUpBegan(at=BEGAN))
    assert told[2] == "│   └── lab/web: GRACEFUL. So it was. (3.0 s) Not up again yet."
    assert told[4] == "    └── lab/db: GRACEFUL. So it was. (3.0 s)"


def test_a_vm_that_is_not_up_again_says_why() -> None:
    up = VMUp(tier="a", vm=WEB.key, at=BEGAN, ready=False, message="It was not ready in time.")
    assert shown(tier("a"), down(WEB), up)[2] == (
        "│   └── lab/web: GRACEFUL. So it was. (3.0 s) Not up again: It was not ready in time."
    )


def test_what_a_guest_says_cannot_move_the_cursor() -> None:
    ended = down(WEB).model_copy(update={"message": "\x1b[2J"})
    assert r"\x1b[2J" in shown(tier("a"), ended)[2]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (TierOver(tier="a", at=BEGAN), "tier a is over; not off: lab/web"),
        (Stopped(tier="a", at=BEGAN), "tier a has Stop and is not off: no further tier begins"),
        (
            Shortened(at=BEGAN, ends=LATER, why="battery"),
            f"less time is left, its budget is over at {LATER.astimezone():%H:%M:%S}: battery",
        ),
        (Aborted(at=BEGAN), "the run is aborted: no further tier begins"),
        (Closed(at=BEGAN, message="Nobody was there."), "the run is over: Nobody was there."),
        (VMUp(tier="a", vm=WEB.key, at=BEGAN, ready=True), "lab/web: Up again."),
    ],
)
def test_events_are_told_in_words(event: Event, text: str) -> None:
    assert line(history(), event) == text


@pytest.mark.parametrize(
    ("outcome", "off", "code"),
    [
        ("GRACEFUL", True, ExitCode.WANTED),
        ("ALREADY_OFF", True, ExitCode.WANTED),
        ("FORCED", True, ExitCode.FORCED),
        ("OUT_OF_BAND", True, ExitCode.FORCED),
        ("SAVED", True, ExitCode.FORCED),
        ("STILL_RUNNING", False, ExitCode.FAILED),
        ("REFUSED", False, ExitCode.FAILED),
        ("OUT_OF_TIME", False, ExitCode.FAILED),
        ("GONE", False, ExitCode.UNKNOWN),
        ("UNKNOWN", True, ExitCode.UNKNOWN),
    ],
)
def test_the_exit_code_is_that_of_the_worst_vm(outcome: str, off: bool, code: ExitCode) -> None:
    assert exit_code(history(down(WEB, outcome, off=off), down(DB, tier="b"))) == code


def test_a_vm_that_was_not_asked_counts_as_failed() -> None:
    assert exit_code(history(down(WEB))) == ExitCode.FAILED


def test_a_run_that_a_trigger_began_says_so() -> None:
    console = Console(width=200)
    with console.capture() as printed:
        console.print(report_tree(History(START.model_copy(update={"trigger": "lab@nas says FSD"}))))
    assert printed.get().splitlines()[1] == "├── begun by a trigger: lab@nas says FSD"
