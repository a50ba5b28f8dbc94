import base64
import gzip
import random
import uuid
from datetime import timedelta

import pytest

from controller import run_record
from controller.run_record import LEFT_OUT, MOST, NO_RECORD, later, packed, recorded_status, size, unpacked
from plans.frozen import FrozenTier, Target
from plans.history import BroughtDown, Closed, Event, History, Released, TierBegan, VMEnded, VMUp
from tests.unit.controller.test_run_status import DOWN, ENDED, LATER, history
from tests.unit.plans.builders import EPOCH
from tests.unit.plans.test_journal import BEGAN, START

OVER = Closed(at=LATER)


def crowd(number: int, message: str = "The guest shut itself down, asked by GUEST_AGENT.", seed: int = 1) -> History:
    """A run that brought so many VMs down and up again."""
    chance = random.Random(seed)

    def some_id() -> str:
        return str(uuid.UUID(int=chance.getrandbits(128)))

    def at(second: int) -> dict[str, object]:
        return {"at": EPOCH + timedelta(seconds=second, microseconds=chance.randrange(60_000_000))}

    request = {"preStop": [{"exec": {"command": ["/usr/bin/save"]}, "timeout": "30s"}]}
    targets = tuple(
        Target(
            provider=f"site-{each % 4}",
            vm=some_id(),
            name=f"customer-{each:04}-web.example.net",
            runs=True,
            need=timedelta(seconds=100),
            request=request,
            resource=f"production/customer-{each:04}",
        )
        for each in range(number)
    )
    made = History(START.model_copy(update={"tiers": (FrozenTier(name="a", targets=targets),)}))
    made.note(BEGAN)
    ended = {"tier": "a", "outcome": "GRACEFUL", "message": message, "off": True, "stopped": True}
    for each in targets:
        made.note(VMEnded.model_validate(ended | at(1) | {"vm": each.key, "operation": some_id()}))
    for each in targets:
        made.note(VMUp.model_validate(at(100) | {"tier": "a", "vm": each.key, "ready": True, "operation": some_id()}))
    return made


def test_a_record_is_read_as_it_was_packed() -> None:
    known = history(BEGAN, ENDED)
    read = unpacked(packed(known))
    assert (read.start, read.events) == (known.start, known.events)


def test_the_same_record_is_packed_as_the_same_text() -> None:
    assert packed(history(BEGAN)) == packed(history(BEGAN))


@pytest.mark.parametrize(
    "written",
    [
        "",
        "no base64",
        base64.b64encode(b"no gzip").decode(),
        base64.b64encode(gzip.compress(b"no record", mtime=0)).decode(),
        packed(history(BEGAN, ENDED))[:-40],
    ],
)
def test_what_is_no_record_is_told(written: str) -> None:
    with pytest.raises(ValueError):
        unpacked(written)


def test_no_more_is_unpacked_than_a_record_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    written = packed(history(BEGAN, ENDED))
    monkeypatch.setattr(run_record, "UNPACKED", 100)
    with pytest.raises(ValueError, match="too large"):
        unpacked(written)


def test_the_status_has_the_record_while_something_is_left_to_do() -> None:
    known = history(BEGAN, ENDED)
    assert unpacked(recorded_status(known).record).events == [BEGAN, ENDED]


def test_the_status_of_what_is_released_has_none() -> None:
    assert recorded_status(history(BEGAN, ENDED, DOWN, OVER, Released(at=LATER))).record == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((BEGAN,), ()),
        ((BEGAN, ENDED), (BEGAN,)),
        ((BEGAN, ENDED, BroughtDown(at=LATER)), (BEGAN, ENDED)),
        ((BEGAN, ENDED), (BEGAN, TierBegan(tier="a", at=EPOCH, gets=BEGAN.gets))),
    ],
)
def test_the_later_of_two_knows_more(one: tuple[Event, ...], other: tuple[Event, ...]) -> None:
    more, less = history(*one), history(*other)
    assert later(more, less) is later(less, more) is more


def test_of_two_that_are_the_same_the_first_counts() -> None:
    one = history(BEGAN)
    assert later(one, history(BEGAN)) is one


def test_two_thousand_vms_fit_with_all_that_is_known_of_them() -> None:
    status = recorded_status(crowd(2000))
    assert size(status) < MOST
    assert len(status.tiers[0].vms) == 2000
    assert all(vm.message and vm.operation and vm.up for vm in status.tiers[0].vms)
    assert len(unpacked(status.record).events) == 4001


def test_of_more_each_vm_says_how_it_ended() -> None:
    status = recorded_status(crowd(2600))
    assert size(status) < MOST
    assert {(vm.outcome, vm.up, vm.message) for vm in status.tiers[0].vms} == {("GRACEFUL", True, "")}
    assert unpacked(status.record)


def test_of_still_more_the_record_is_kept_and_the_status_says_so() -> None:
    status = recorded_status(crowd(5000))
    assert size(status) < MOST
    assert (status.tiers[0].vms, status.message) == ((), LEFT_OUT)
    assert unpacked(status.record)


def test_a_record_that_is_too_large_is_left_out_and_the_status_says_so() -> None:
    status = recorded_status(crowd(8000))
    assert (status.record, status.message) == ("", f"{LEFT_OUT} {NO_RECORD}")
