import asyncio

import pytest

from client.errors import ProviderError
from plans.calls import Calls
from plans.frozen import Target
from protos.power.v1 import power_pb2 as pb
from tests.unit.plans.fake import FakeProvider
from tests.unit.plans.test_journal import TARGET

pytestmark = pytest.mark.looptime
APP = Target.model_validate(TARGET.model_dump() | {"vm": "app"})


def shutdown(**more: object) -> pb.ShutdownRequest:
    return pb.ShutdownRequest(vm="app", request_id="r", **more)  # type: ignore[arg-type]


async def test_a_request_is_sent_until_it_is_answered() -> None:
    lab = FakeProvider(app=1)
    lab.away = True
    asyncio.get_running_loop().call_later(10, lambda: setattr(lab, "away", False))
    operation = await Calls({"lab": lab}).begin(APP, shutdown(), lambda: False)
    assert operation
    assert operation.request_id == "r"


async def test_a_refusal_is_not_sent_again() -> None:
    lab = FakeProvider(app=1)
    lab.refusal = ProviderError("FAILED_PRECONDITION", "It is a template.", "VM_REFUSED")
    with pytest.raises(ProviderError, match="template"):
        await Calls({"lab": lab}).begin(APP, shutdown(), lambda: False)
    assert len(lab.requests) == 1


async def test_what_is_given_up_before_it_was_sent_has_begun_nothing() -> None:
    lab = FakeProvider(app=1)
    assert await Calls({"lab": lab}).begin(APP, shutdown(), lambda: True) is None
    assert lab.operations == {}


async def test_what_is_given_up_after_it_was_sent_is_found() -> None:
    lab = FakeProvider(app=1)
    begun = lab.begin("app", shutdown())
    found = await Calls({"lab": lab}).begin(APP, shutdown(), lambda: True)
    assert found
    assert found.id == begun.id


async def test_what_is_looked_for_is_looked_for_until_there_is_an_answer() -> None:
    lab = FakeProvider(app=1)
    lab.away = True
    asyncio.get_running_loop().call_later(10, lambda: setattr(lab, "away", False))
    assert await Calls({"lab": lab}).find(APP, "r") is None
    assert asyncio.get_running_loop().time() >= 10


async def test_room_is_given_back_when_an_operation_has_begun() -> None:
    lab = FakeProvider(app=100, db=100)
    calls = Calls({"lab": lab}, room=1)
    await calls.begin(APP, shutdown(), lambda: False)
    other = APP.model_copy(update={"vm": "db"})
    await calls.begin(other, pb.ShutdownRequest(vm="db", request_id="s"), lambda: False)
    assert asyncio.get_running_loop().time() < 1


async def test_who_runs_is_told_by_id() -> None:
    lab = FakeProvider(app=1, db=1)
    await lab.turn("db", pb.POWER_STATE_OFF)
    assert await Calls({"lab": lab}).running("lab") == {"app"}
