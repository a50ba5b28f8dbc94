"""The tap itself: neither side notices it, and it records everything."""

from collections.abc import Iterator

import grpc
import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.calls import Calls, calls
from tests.rigs.process import Provider
from tests.rigs.tap import Tap


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider("sim") as provider:
        yield provider


@pytest.fixture
def tap(provider: Provider) -> Iterator[Tap]:
    with Tap(provider.address) as tap:
        yield tap


@pytest.fixture
def tapped(tap: Tap) -> Iterator[Calls]:
    with calls(tap.address) as client:
        yield client


def test_an_answer_passes(tapped: Calls) -> None:
    assert tapped.vm("web").name == "web"


def test_a_stream_passes_as_it_comes(tapped: Calls) -> None:
    assert tapped.wait_vm("web", lambda vm: vm.power_state == pb.POWER_STATE_ON).name == "web"


def test_an_error_passes_with_its_details(tapped: Calls) -> None:
    with pytest.raises(grpc.RpcError, match="No VM has the id or name 'none'") as refused:
        tapped.vm("none")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert "VM_NOT_FOUND" in str(refused.value.trailing_metadata())


def test_calls_and_what_they_sent_are_remembered(tapped: Calls, tap: Tap) -> None:
    tapped.vm("web")
    assert [call.method for call in tap.calls] == ["GetVM"]
    assert tap.requests("GetVM") == [pb.GetVMRequest(vm="web").SerializeToString()]
