"""Starting operations on one or several VMs, following them to their verdicts, and telling how they ended."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

import grpc

from cli import render, verdict
from cli.client import Client
from cli.errors import ExitCode, Failure, complain, usage, worst
from cli.options import Output
from cli.progress import Progress
from protos.power.v1 import power_pb2 as pb

Judge = Callable[[pb.Operation], ExitCode]
Seen = Callable[[pb.Operation], None]
Request = TypeVar("Request", pb.PowerOnRequest, pb.PowerOffRequest, pb.ShutdownRequest, pb.RebootRequest)


async def carry_out(
    client: Client,
    vms: Sequence[str],
    method: grpc.aio.UnaryUnaryMultiCallable[Request, pb.Operation],
    request: Request,
    *,
    output: Output,
    wait: bool,
    request_id: str,
) -> ExitCode:
    """Ask the same of each VM, wait for all verdicts (or only print the operations' ids), and judge.

    Raises:
        Failure: with several VMs, if one of them is unknown; nothing has been started then.
    """
    if request_id and len(vms) > 1:
        raise usage("--request-id means one operation, so it goes with one VM.")
    targets = [vm.id for vm in await _resolve(client, vms)] if len(vms) > 1 else vms
    requests = [_copy(request, target, request_id or str(uuid.uuid4())) for target in targets]
    calls = [client.call(method, each) for each in requests]
    return await _begin(client, calls, output, wait, several=len(vms) > 1)


async def _begin(
    client: Client, calls: Sequence[Awaitable[pb.Operation]], output: Output, wait: bool, several: bool
) -> ExitCode:
    begun = await asyncio.gather(*map(_attempt, calls))
    operations = [each for each in begun if isinstance(each, pb.Operation)]
    refused = [each.code for each in begun if isinstance(each, Failure)]
    return worst([*refused, await finish(client, operations, output, wait=wait, several=several)])


def _copy(request: Request, vm: str, request_id: str) -> Request:
    """Each operation gets an id of its own, so that a call repeated on its way is carried out once."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.vm, copy.request_id = vm, request_id
    return copy


async def _resolve(client: Client, names: Sequence[str]) -> list[pb.VM]:
    """The VMs with these ids or names, each once, in the order given.

    Raises:
        Failure: one is unknown or ambiguous; the message tells of all that are.
    """
    calls = (client.call(client.stub.GetVM, pb.GetVMRequest(vm=name)) for name in names)
    found = await asyncio.gather(*calls, return_exceptions=True)
    failures = [each for each in found if isinstance(each, Failure)]
    if failures and failures[0].code is ExitCode.USAGE:
        raise usage("Nothing was done:", *(failure.message for failure in failures))
    if failures:
        raise failures[0]
    return list({vm.id: vm for vm in found if isinstance(vm, pb.VM)}.values())


async def _attempt(work: Awaitable[pb.Operation]) -> pb.Operation | Failure:
    try:
        return await work
    except Failure as failure:
        complain(failure)
        return failure


async def finish(
    client: Client,
    operations: Sequence[pb.Operation],
    output: Output,
    *,
    wait: bool = True,
    several: bool = False,
    judge: Judge = verdict.exit_code,
) -> ExitCode:
    """Follow the operations to their ends, print those, and judge; without `wait` only say what was begun."""
    if wait:
        ends = await _to_the_end(client, operations)
        operations = [end for end in ends if isinstance(end, pb.Operation)]
        render.show_verdicts(output, operations, several)
        return worst([end.code if isinstance(end, Failure) else judge(end) for end in ends])
    if output is Output.TABLE:
        for operation in operations:
            print(operation.id)
    else:
        render.show_verdicts(output, operations, several)
    return ExitCode.WANTED


async def _to_the_end(client: Client, operations: Sequence[pb.Operation]) -> list[pb.Operation | Failure]:
    progress = Progress()
    try:
        with progress.live():
            return await asyncio.gather(*(_attempt(follow(client, each, progress)) for each in operations))
    finally:
        progress.tell_what_goes_on()


async def follow(
    client: Client, operation: pb.Operation, progress: Progress, seen: Seen = lambda _: None
) -> pb.Operation:
    """Show the operation until it has ended, through lost connections; returns it with its verdict.

    Raises:
        Failure: the provider stays away, or no longer knows the operation.
    """
    progress.show(operation)
    if verdict.ended(operation):
        return operation
    request = pb.WatchOperationRequest(id=operation.id)
    async with aclosing(client.stream(lambda: client.stub.WatchOperation(request), progress.note)) as changes:
        async for changed in changes:
            progress.show(changed)
            seen(changed)
            if verdict.ended(changed):
                return changed
    raise AssertionError("a stream never ends by itself")
