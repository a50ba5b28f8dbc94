"""The standard companions: health and reflection."""

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.conformance.client import Power, refusal

SERVICE = "power.v1.PowerService"


async def check(power: Power, service: str) -> health_pb2.HealthCheckResponse:
    stub: Any = health_pb2_grpc.HealthStub(power.channel)
    answer: health_pb2.HealthCheckResponse = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return answer


async def reflect(
    power: Power, request: reflection_pb2.ServerReflectionRequest
) -> reflection_pb2.ServerReflectionResponse:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(power.channel)  # type: ignore[arg-type]  # aio will do
    answer: reflection_pb2.ServerReflectionResponse
    async for answer in stub.ServerReflectionInfo(iter([request])):
        return answer
    pytest.fail("reflection said nothing")


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_a_server_whose_hypervisor_answers_is_serving(power: Power, service: str) -> None:
    assert (await check(power, service)).status == health_pb2.HealthCheckResponse.SERVING


async def test_the_health_of_an_unknown_service_is_not_found(power: Power) -> None:
    assert (await refusal(check(power, "no.such.Service"))).code == grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_service(power: Power) -> None:
    answer = await reflect(power, reflection_pb2.ServerReflectionRequest(list_services=""))
    assert SERVICE in [service.name for service in answer.list_services_response.service]


async def test_reflection_describes_the_service(power: Power) -> None:
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
    files = (await reflect(power, request)).file_descriptor_response.file_descriptor_proto
    described = [FileDescriptorProto.FromString(file) for file in files]
    assert "PowerService" in [service.name for file in described for service in file.service]


async def test_an_unknown_method_is_unimplemented(power: Power) -> None:
    refused = await refusal(power.raw("MakeCoffee", b""))
    assert refused.code == grpc.StatusCode.UNIMPLEMENTED
