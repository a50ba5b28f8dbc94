"""Starting operations on one or several VMs, following them to their verdicts, and telling how they ended."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from copy import deepcopy
from typing import TypeVar

from google.protobuf.message import Message

from cli import render, verdict
from cli.errors import ExitCode, Failure, complain, translate, usage, worst
from cli.options import Output
from cli.outage import Outage
from cli.progress import Progress
from client.errors import ProviderError
from client.power import PowerClient, WorkRequest, has_ended
from common.text import clean
from protos.power.v1 import power_pb2 as pb

Judge = Callable[[pb.Operation], ExitCode]
OnChange = Callable[[pb.Operation], None]
M = TypeVar("M", bound=Message)


async def carry_out(
    client: PowerClient, vms: Sequence[str], request: WorkRequest, *, output: Output, wait: bool, request_id: str
) -> ExitCode:
    """Ask the same of each VM, wait for all verdicts (or only print the operations' ids), and judge.

    Raises:
        Failure: with several VMs, if one of them is unknown; nothing has been started then.
    """
    if request_id and len(vms) > 1:
        raise usage("--request-id means one operation, so it goes with one VM.")
    targets = [vm.id for vm in await _resolve(client, vms)] if len(vms) > 1 else vms
    calls = [client.call(_copy(request, target, request_id)) for target in targets]
    return await _begin(client, calls, output, wait, several=len(vms) > 1)


async def _begin(
    client: PowerClient, calls: Sequence[Awaitable[pb.Operation]], output: Output, wait: bool, several: bool
) -> ExitCode:
    begun = await asyncio.gather(*(_attempt(client, call) for call in calls))
    operations = [each for each in begun if isinstance(each, pb.Operation)]
    refused = [each.code for each in begun if isinstance(each, Failure)]
    return worst([*refused, await finish(client, operations, output, wait=wait, several=several)])


def _copy(request: WorkRequest, vm: str, request_id: str) -> WorkRequest:
    copy = deepcopy(request)
    copy.vm, copy.request_id = vm, request_id
    return copy


async def _resolve(client: PowerClient, names: Sequence[str]) -> list[pb.VM]:
    """The VMs with these ids or names, each once, in the order given.

    Raises:
        Failure: one is unknown or ambiguous; the message tells of all that are.
    """
    calls = (_attempt(client, client.call(pb.GetVMRequest(vm=name)), tell=lambda _: None) for name in names)
    found = await asyncio.gather(*calls)
    failures = [each for each in found if isinstance(each, Failure)]
    if failures and failures[0].code is ExitCode.USAGE:
        raise usage("Nothing was done:", *(failure.message for failure in failures))
    if failures:
        raise failures[0]
    return list({vm.id: vm for vm in found if isinstance(vm, pb.VM)}.values())


async def _attempt(client: PowerClient, work: Awaitable[M], tell: Callable[[Failure], None] = complain) -> M | Failure:
    """What `work` returns, or its failure, which is told at once."""
    try:
        return await work
    except (ProviderError, Failure) as error:
        failure = error if isinstance(error, Failure) else translate(error, client.address)
        tell(failure)
        return failure


async def finish(
    client: PowerClient,
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
            print(clean(operation.id))
    else:
        render.show_verdicts(output, operations, several)
    return ExitCode.WANTED


async def _to_the_end(client: PowerClient, operations: Sequence[pb.Operation]) -> list[pb.Operation | Failure]:
    progress = Progress()
    try:
        with progress.live():
            return await asyncio.gather(
                *(_attempt(client, wait_for_verdict(client, each, progress)) for each in operations)
            )
    finally:
        progress.tell_what_goes_on()


async def wait_for_verdict(
    client: PowerClient, operation: pb.Operation, progress: Progress, on_change: OnChange = lambda _: None
) -> pb.Operation:
    """Show the operation until it has ended, through lost connections; returns it with its verdict.

    Raises:
        ProviderError: the provider no longer knows the operation.
        Failure: the provider stays away.
    """
    progress.show(operation)
    if has_ended(operation):
        return operation
    outage = Outage(client.address, progress.note)
    async with aclosing(client.watch_operation(operation.id, outage.on_break)) as changes:
        async for changed in changes:
            late = outage.over()
            progress.show(changed, late=late)
            on_change(changed)
    return changed
