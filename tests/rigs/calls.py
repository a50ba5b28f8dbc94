"""A blocking client of the contract, for tests and benches that drive real processes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from protos.power.v1 import power_pb2 as pb
from protos.power.v1.power_pb2_grpc import PowerServiceStub
from tests.rigs.process import QUICK

FINAL = (pb.OPERATION_STATE_SUCCEEDED, pb.OPERATION_STATE_FAILED, pb.OPERATION_STATE_CANCELLED)


def was_accepted(operation: pb.Operation) -> bool:
    """Whether the hypervisor has accepted to ask the guest, and that is written down."""
    return any(step.message.endswith(" was accepted") for step in operation.steps)


class Calls:
    """A stub, and the two things one does with it: look at an operation until something holds, and at a VM."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = PowerServiceStub(channel)

    def until(
        self, operation: pb.Operation, holds: Callable[[pb.Operation], bool], timeout: float = 60
    ) -> pb.Operation:
        """Watch the operation until `holds`; its state then.

        Raises:
            AssertionError: it ended before.
        """
        request = pb.WatchOperationRequest(id=operation.id)
        seen = self.stub.WatchOperation(request, timeout=timeout, wait_for_ready=True)
        for state in seen:
            if holds(state):
                seen.cancel()
                return state
        raise AssertionError(f"it ended without that: {state}")

    def until_state(self, operation: pb.Operation, state: pb.OperationState.ValueType) -> pb.Operation:
        """Watch the operation until it stands in `state`."""
        return self.until(operation, lambda seen: seen.state == state)

    def end(self, operation: pb.Operation, timeout: float = 120) -> pb.Operation:
        """The operation when it has ended."""
        return self.until(operation, lambda seen: seen.state in FINAL, timeout)

    def vm(self, name: str) -> pb.VM:
        """A VM as it is."""
        return self.stub.GetVM(pb.GetVMRequest(vm=name), wait_for_ready=True)

    def wait_vm(self, name: str, holds: Callable[[pb.VM], bool], timeout: float = 60) -> pb.VM:
        """Watch all VMs until one of this name satisfies `holds`."""
        seen = self.stub.WatchVMs(pb.WatchVMsRequest(), timeout=timeout, wait_for_ready=True)
        for event in seen:
            if event.changed.name == name and holds(event.changed):
                seen.cancel()
                return event.changed
        raise AssertionError("the watch ended")


@contextmanager
def calls(address: str) -> Iterator[Calls]:
    """A connection that comes back quickly when the server does."""
    with grpc.insecure_channel(address, options=QUICK) as channel:
        yield Calls(channel)
