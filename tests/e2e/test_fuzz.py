"""Whatever a client sends, a real provider answers it, and does what it was asked for and nothing else."""

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest

from protos.power.v1 import power_pb2 as pb
from tests.fuzz.provider import METHODS, fuzz, harm, provider, wrong
from tests.rigs.calls import calls

REQUESTS = 2_000
"""`make soak` sends 100,000."""


def test_random_requests_are_answered_as_the_contract_says_and_harm_nothing(tmp_path: Path) -> None:
    with provider(tmp_path) as running:
        found = asyncio.run(fuzz(running.address, REQUESTS, seed=1))
        assert found.wrong == []
        assert harm(running, tmp_path) == []
    assert found.codes.total() == REQUESTS
    assert found.codes["OK"] > REQUESTS / 20
    assert found.codes["INVALID_ARGUMENT"] > REQUESTS / 20
    assert len(METHODS) == 15


def test_what_was_done_to_a_vm_that_was_not_named_is_seen(tmp_path: Path) -> None:
    with provider(tmp_path) as running:
        with calls(running.address) as client:
            client.end(client.stub.PowerOff(pb.PowerOffRequest(vm="bystander")))
        found = harm(running, tmp_path)
    assert found[:2] == ["bystander is not as it was", "bystander has operations"]
    assert found[2].startswith("bystander was called: ")


def test_a_provider_that_has_ended_is_seen(tmp_path: Path) -> None:
    with provider(tmp_path) as running:
        running.kill()
        assert harm(running, tmp_path) == ["the provider has ended"]


class Refusal(grpc.aio.AioRpcError):
    """As a server ends a call without a word of ours."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "it broke")


@pytest.mark.parametrize("code", [grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.NOT_FOUND])
def test_an_error_without_a_reason_is_seen(code: grpc.StatusCode) -> None:
    assert "it broke" in wrong(Refusal(code))
