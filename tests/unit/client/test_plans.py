import pytest

from client.errors import ProviderError
from client.plans import PlanClient
from protos.plan.v1 import plan_pb2 as pb


@pytest.mark.parametrize(("address", "why"), [("", "must be"), ("10.0.0.7:9443", "mutual TLS")])
async def test_an_address_that_cannot_serve_is_refused(address: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        PlanClient(address)


async def test_a_controller_that_is_not_there_is_unavailable() -> None:
    async with PlanClient("unix:///nowhere/at/all") as client:
        with pytest.raises(ProviderError) as refused:
            await client.call(pb.ListPlansRequest())
        assert refused.value.connection_failed
        with pytest.raises(ProviderError):
            [each async for each in client.watch("")]
