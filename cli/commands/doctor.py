"""`doctor`: what keeps VMs from going down gracefully, at every provider, who acts, and by which command."""

import asyncio
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from cli import render
from cli.app import VM_HELP, Format, Provider, command
from cli.doctor import checks, reach
from cli.doctor.checks import Answer
from cli.doctor.finding import Check, Finding, Level, exit_code
from cli.errors import ExitCode, translate
from cli.fleet import Member, connect
from cli.options import Output
from client.errors import ProviderError
from common.text import clean
from protos.power.v1 import power_pb2 as pb

SomeVMs = Annotated[list[str] | None, typer.Argument(metavar="VM...", help=f"{VM_HELP} None: all.")]
AsJson = Annotated[bool, typer.Option("--json", help="The same as `-o json`.")]
_COLOURS = {Level.PROBLEM: "red", Level.WARNING: "yellow"}


@dataclass
class Seen:
    """What was seen of one provider. `answer` is None, and `vms` are empty, where it could not be asked."""

    member: Member
    findings: list[Finding] = field(default_factory=list)
    answer: Answer | None = None
    vms: list[pb.VM] = field(default_factory=list)
    listed: bool = False
    """Whether it was heard which VMs there are."""


@command("doctor")
async def doctor(
    vms: SomeVMs = None, provider: Provider = "", output: Format = Output.TABLE, as_json: AsJson = False
) -> ExitCode:
    """What keeps VMs from going down gracefully, who acts, and by which command. Changes nothing."""
    async with connect(provider) as fleet:
        seen = list(await asyncio.gather(*map(_look, fleet.members)))
        findings = [finding for each in seen for finding in each.findings]
        chosen, lost = _choose(seen, [fleet.bare(name) for name in vms or []], fleet.several)
        findings += [finding for answer, vm in chosen for finding in checks.vm(answer, vm)] + lost
    _show(Output.JSON if as_json else output, findings, providers=len(seen), vms=len(chosen))
    return exit_code(findings)


async def _look(member: Member) -> Seen:
    """All that one provider tells of itself and of its VMs; nothing raises."""
    seen = Seen(member)
    client, name = member.client, member.name
    seen.findings += await reach.look(client.address, member.tls, name)
    if reach.blocks(seen.findings):
        return seen
    try:
        asked = datetime.now(UTC)
        info = await client.call(pb.GetProviderInfoRequest())
        heard, certificate = datetime.now(UTC), member.tls.cert if member.tls else None
        seen.answer = Answer(
            info, client.address, asked, heard, name, member.prefix, member.vmpower, certificate=certificate
        )
        seen.findings += checks.provider(seen.answer)
        if info.connected:
            seen.vms = list((await client.call(pb.ForecastShutdownRequest())).vms)
            seen.listed = True
    except ProviderError as error:
        seen.findings.append(_unanswered(error, member))
    return seen


def _unanswered(error: ProviderError, member: Member) -> Finding:
    if error.reason == "CERTIFICATE_REFUSED":
        check = Check.OWN_CERTIFICATE_REFUSED
    else:
        check = Check.NO_ANSWER if error.connection_failed else Check.REFUSED
    words = {"file": shlex.quote(str(member.tls.cert))} if member.tls else {}
    what = translate(error, member.client.address).message
    return checks.of(check, Level.PROBLEM, what, provider=member.name, **words)


def _choose(
    seen: Sequence[Seen], names: Sequence[str], several: bool
) -> tuple[list[tuple[Answer, pb.VM]], list[Finding]]:
    """The VMs that are meant, each once, and what is wrong with names that mean none, or too many."""
    known = [(each.answer, vm) for each in seen if each.answer for vm in each.vms]
    if not names:
        return known, []
    chosen, lost = list[tuple[Answer, pb.VM]](), list[Finding]()
    vmpower = "vmpower" if several else seen[0].member.vmpower
    for name in dict.fromkeys(names):
        found = [(answer, vm) for answer, vm in known if _is_called(answer, vm, name)]
        exact = [(answer, vm) for answer, vm in found if vm.id in (name, name.partition("/")[2])] or found
        if len(exact) > 1:
            ways = " or ".join(f"{answer.provider}/{vm.id}" if several else vm.id for answer, vm in exact)
            what = f"{name!r} means {len(exact)} VMs: write {ways}."
            lost.append(checks.of(Check.VM_UNCLEAR, Level.PROBLEM, what))
        elif not exact and any(not each.listed for each in _places(seen, name)):
            continue  # it may be there: what is wrong with the provider is told, and of the VM nothing is known
        elif not exact:
            shown = {vm.name: f"{answer.provider}/{vm.name}" if several else vm.name for answer, vm in known}
            lost.append(checks.unknown(name, shown, vmpower))
        else:
            chosen += [each for each in exact if each not in chosen]
    return chosen, lost


def _places(seen: Sequence[Seen], name: str) -> Sequence[Seen]:
    """Where a VM of this name may be: at the provider that stands before it, else at any."""
    return [each for each in seen if each.member.name and name.startswith(f"{each.member.name}/")] or seen


def _is_called(answer: Answer, vm: pb.VM, name: str) -> bool:
    """By its id or name, its inventory path, or one of these behind its provider's name."""
    own = {vm.id, vm.name, vm.labels.get("path", vm.name)}
    return name in own or bool(answer.provider and name in {f"{answer.provider}/{each}" for each in own})


def _show(output: Output, findings: Sequence[Finding], *, providers: int, vms: int) -> None:
    if output is not Output.TABLE:
        render.emit(output, [finding.as_dict() for finding in findings])
        return
    for finding in findings:
        for line in _lines(finding):
            render.show_table(line)
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    found = f"{_count(problems, 'problem')}, {_count(len(findings) - problems, 'warning')}"
    render.show_table(Text(f"{found}: {_count(vms, 'VM')} at {_count(providers, 'provider')} looked at."))


def _lines(finding: Finding) -> list[Text]:
    about = "/".join(part for part in (finding.provider, finding.vm) if part)
    head = Text(finding.level, style=_COLOURS[finding.level])
    head.append(clean(f" {about}: {finding.what}" if about else f" {finding.what}"), style="not bold default")
    head.append(f" [{finding.check}]", style="default")
    rest = [f"  why: {finding.why}", f"  who: {finding.who}"]
    marks = ["do: ", *["    "] * len(finding.commands)]
    rest += [f"  {mark} {text}" for mark, text in zip(marks, finding.commands, strict=False)]
    return [head, *(Text(clean(text)) for text in rest)]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
