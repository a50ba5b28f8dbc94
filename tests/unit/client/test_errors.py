"""What a real server's refusals become."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status

from client.errors import ProviderError
from client.power import PowerClient
from protos.power.v1 import power_pb2 as pb
from tests.unit.client.fake_provider import FakeProvider, serving


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
async def client(fake: FakeProvider, tmp_path: Path) -> AsyncIterator[PowerClient]:
    async with serving(fake, tmp_path / "p.sock") as address, PowerClient(address) as client:
        yield client


async def refusal(client: PowerClient) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await client.call(pb.PowerOffRequest(vm="1"))
    return caught.value


async def test_an_error_keeps_its_code_reason_message_and_metadata(fake: FakeProvider, client: PowerClient) -> None:
    fake.refuse(grpc.StatusCode.ABORTED, "OPERATION_ACTIVE", "op-9 is active", operation_id="op-9")
    error = await refusal(client)
    assert (error.code, error.reason, error.message) == ("ABORTED", "OPERATION_ACTIVE", "op-9 is active")
    assert error.metadata == {"operation_id": "op-9"}


async def test_an_error_without_details_has_its_code_as_reason(fake: FakeProvider, client: PowerClient) -> None:
    fake.refusal = Status(code=grpc.StatusCode.INTERNAL.value[0], message="boom")
    error = await refusal(client)
    assert (error.code, error.reason, error.message, error.explained) == ("INTERNAL", "INTERNAL", "boom", False)


async def test_bad_input_is_told_field_by_field(fake: FakeProvider, client: PowerClient) -> None:
    fake.refuse(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "bad")
    violation = BadRequest.FieldViolation
    fields = [violation(field="vm", description="must not be empty"), violation(field="vm", description="no such id")]
    detail = AnyMessage()
    detail.Pack(BadRequest(field_violations=fields))
    assert fake.refusal
    fake.refusal.details.append(detail)
    assert (await refusal(client)).violations == [("vm", "must not be empty"), ("vm", "no such id")]


@pytest.mark.parametrize(
    "contradiction",
    [{"code": grpc.StatusCode.NOT_FOUND.value[0]}, {"message": "another"}],
    ids=["code", "message"],
)
async def test_details_that_contradict_the_status_are_not_trusted(
    contradiction: dict[str, object], fake: FakeProvider, client: PowerClient
) -> None:
    fake.refuse(grpc.StatusCode.ABORTED, "OPERATION_ACTIVE", "op-9 is active", operation_id="op-9")
    fake.rewrite(**contradiction)
    error = await refusal(client)
    assert (error.reason, error.metadata) == (error.code, {})


async def test_closing_the_client_ends_a_stream_with_an_error_and_not_a_cancellation(client: PowerClient) -> None:
    async def first() -> pb.Operation:
        return await anext(client.stream(pb.WatchOperationRequest(id="op-1")))

    watching = asyncio.create_task(first())
    await client.call(pb.PowerOffRequest(vm="1"))  # the stream is open by now
    await client.close()
    with pytest.raises(ProviderError) as caught:
        await watching
    assert caught.value.code == "UNAVAILABLE"


async def test_a_caller_that_is_cancelled_is_cancelled(client: PowerClient) -> None:
    watching = asyncio.create_task(anext(client.stream(pb.WatchOperationRequest(id="op-1"))))
    await client.call(pb.PowerOffRequest(vm="1"))
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_a_provider_that_does_not_answer_is_no_refusal(tmp_path: Path) -> None:
    async with PowerClient(f"unix://{tmp_path}/nobody.sock") as client:
        error = await refusal(client)
    assert (error.code, error.connection_failed) == ("UNAVAILABLE", True)


@pytest.mark.parametrize(
    ("code", "reason", "connection_failed"),
    [
        ("UNAVAILABLE", "", True),
        ("DEADLINE_EXCEEDED", "", True),
        ("UNAVAILABLE", "HYPERVISOR_UNAVAILABLE", False),
        ("INTERNAL", "", False),
    ],
)
def test_only_a_failed_connection_is_connection_failed(code: str, reason: str, connection_failed: bool) -> None:
    assert ProviderError(code, "no", reason).connection_failed is connection_failed
