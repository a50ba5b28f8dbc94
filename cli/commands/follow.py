"""Starting operations on one or several VMs, following them to their verdicts, and telling how they ended."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from copy import deepcopy
from typing import NamedTuple, TypeVar

from cli import render, verdict
from cli.errors import ExitCode, Failure, complain, usage, worst
from cli.fleet import Fleet, Member, Target
from cli.options import Output
from cli.outage import Outage
from cli.progress import Progress
from client.power import WorkRequest, has_ended
from common.text import clean
from protos.power.v1 import power_pb2 as pb

Judge = Callable[[pb.Operation], ExitCode]
OnChange = Callable[[pb.Operation], None]
T = TypeVar("T")


class Running(NamedTuple):
    """An operation, and the provider that carries it out."""

    member: Member
    operation: pb.Operation

    @property
    def told(self) -> tuple[str, pb.Operation]:
        """With the provider's name, as results are printed."""
        return self.member.name, self.operation


async def carry_out(
    fleet: Fleet,
    vms: Sequence[str],
    request: WorkRequest,
    *,
    output: Output,
    wait: bool,
    request_id: str,
    judge: Judge = verdict.exit_code,
) -> ExitCode:
    """Ask the same of each VM, wait for all verdicts (or only print the operations' ids), and judge.

    Raises:
        Failure: with several VMs, if one of them is unknown; nothing has been started then.
    """
    if request_id and len(vms) > 1:
        raise usage("--request-id means one operation, so it goes with one VM.")
    targets = await fleet.resolve(vms)
    begun = await asyncio.gather(*(_attempt(_begin(target, request, request_id)) for target in targets))
    running = [each for each in begun if not isinstance(each, Failure)]
    refused = [each.code for each in begun if isinstance(each, Failure)]
    return worst([*refused, await finish(running, output, wait=wait, several=len(vms) > 1, judge=judge)])


async def _begin(target: Target, request: WorkRequest, request_id: str) -> Running:
    copy = deepcopy(request)
    copy.vm, copy.request_id = target.vm, request_id
    with target.member.failing():
        return Running(target.member, await target.member.client.call(copy))


async def _attempt(work: Awaitable[T]) -> T | Failure:
    """What `work` returns, or its failure, which is told at once."""
    try:
        return await work
    except Failure as failure:
        complain(failure)
        return failure


async def finish(
    running: Sequence[Running],
    output: Output,
    *,
    wait: bool = True,
    several: bool = False,
    judge: Judge = verdict.exit_code,
) -> ExitCode:
    """Follow the operations to their ends, print those, and judge; without `wait` only say what was begun."""
    if wait:
        ends = await _to_the_end(running)
        render.show_verdicts(output, [each.told for each in ends if isinstance(each, Running)], several)
        return worst([end.code if isinstance(end, Failure) else judge(end.operation) for end in ends])
    if output is Output.TABLE:
        for each in running:
            print(clean(each.operation.id))
    else:
        render.show_verdicts(output, [each.told for each in running], several)
    return ExitCode.WANTED


async def _to_the_end(running: Sequence[Running]) -> list[Running | Failure]:
    progress = Progress()
    try:
        with progress.live():
            return await asyncio.gather(*(_attempt(wait_for_verdict(each, progress)) for each in running))
    finally:
        progress.tell_what_goes_on()


async def wait_for_verdict(running: Running, progress: Progress, on_change: OnChange = lambda _: None) -> Running:
    """Show the operation until it has ended, through lost connections; returns it with its verdict. `on_change` is told
    each state, of an operation that has ended already its last one.

    Raises:
        Failure: the provider no longer knows the operation, or stays away.
    """
    name, client, changed = running.member.name, running.member.client, running.operation
    progress.show(verdict.at(name, changed))
    if has_ended(changed):
        on_change(changed)
        return running
    outage = Outage(client.address, progress.note)
    with running.member.failing():
        async with aclosing(client.watch_operation(changed.id, outage.on_break)) as changes:
            async for changed in changes:
                late = outage.over()
                progress.show(verdict.at(name, changed), late=late)
                on_change(changed)
    return Running(running.member, changed)
