"""The commands that start something: `on`, `off`, `shutdown`, `reboot`; each waits for its verdict."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from cli import hooks, options, verdict
from cli.app import VM_HELP, Format, Provider, Reason, Wait, command
from cli.commands.follow import carry_out
from cli.errors import ExitCode, usage
from cli.fleet import connect
from cli.hooks import HookOptions
from cli.options import Output
from client.times import duration
from protos.power.v1 import power_pb2 as pb

VMs = Annotated[list[str], typer.Argument(metavar="VM", help=VM_HELP)]
Texts = list[str] | None
RequestId = Annotated[
    str,
    typer.Option("--request-id", metavar="ID", help="The same id is the same operation, however often it is sent."),
]
Timeout = Annotated[
    timedelta | None,
    typer.Option(
        "--timeout",
        parser=options.duration,
        metavar="DURATION",
        help="Grace period (90s, 1m30s), from the end of the hooks; default: the provider's.",
    ),
]
Escalation = Annotated[
    str,
    typer.Option(
        "--escalation",
        metavar="force|never|ask|save",
        help="What happens to a VM that still runs then; default: the provider's. "
        "save: its memory is saved to disk, and `vmpower on` resumes it.",
    ),
]
RebootEscalation = Annotated[
    str,
    typer.Option(
        "--escalation",
        metavar="force|never|ask",
        help="What happens to a VM that still runs then; default: the provider's.",
    ),
]
SaveFallback = Annotated[
    str,
    typer.Option(
        "--save-fallback",
        metavar="never|force",
        help="With --escalation save: what happens to a VM whose memory cannot be saved; default: never.",
    ),
]
HookFile = Annotated[
    Path | None,
    typer.Option("--hooks", metavar="FILE", help="YAML: a hook or a list of them, with every field."),
]
HookTimeout = Annotated[
    timedelta | None,
    typer.Option(
        "--hook-timeout",
        parser=options.duration,
        metavar="DURATION",
        help="For the hooks given as options; default 30s.",
    ),
]
HookFailure = Annotated[
    str,
    typer.Option(
        "--hook-failure",
        metavar="continue|abort",
        help="What it does if one of those hooks fails; default: continue.",
    ),
]
ReadyTimeout = Annotated[
    timedelta | None,
    typer.Option(
        "--ready-timeout",
        parser=options.duration,
        metavar="DURATION",
        help="With --ready-exec or --ready-tcp; default 5m.",
    ),
]
Login = Annotated[
    Path | None,
    typer.Option(
        "--guest-credentials",
        metavar="FILE",
        help="YAML: username and password of a login in the guest, where its hypervisor asks for one.",
    ),
]
_EXEC = "Run a program in the guest, without a shell; repeatable."
_HTTP = "GET this URL; repeatable."
_READY = "It is up when this program in the guest exits with 0; it is run until it does."
_PORT = "It is up when one of its own addresses takes a connection at this port."
_SNAPSHOT = "Take a snapshot of this name; repeatable."


@command("on")
async def on(
    vms: VMs,
    *,
    post_start_exec: Annotated[Texts, typer.Option(metavar="COMMAND", help=_EXEC)] = None,
    post_start_http: Annotated[Texts, typer.Option(metavar="URL", help=_HTTP)] = None,
    post_start_snapshot: Annotated[Texts, typer.Option(metavar="NAME", help=_SNAPSHOT)] = None,
    hook_file: HookFile = None,
    hook_timeout: HookTimeout = None,
    hook_failure: HookFailure = "",
    ready_exec: Annotated[str | None, typer.Option(metavar="COMMAND", help=_READY)] = None,
    ready_tcp: Annotated[int | None, typer.Option(metavar="PORT", min=1, max=65535, help=_PORT)] = None,
    ready_timeout: ReadyTimeout = None,
    guest_credentials: Login = None,
    request_id: RequestId = "",
    reason: Reason = "",
    wait: Wait = True,
    provider: Provider = "",
    output: Format = Output.TABLE,
) -> ExitCode:
    """Start VMs. A shutdown that is under way is called off."""
    given = HookOptions(post_start_exec, post_start_http, post_start_snapshot, hook_file, hook_timeout, hook_failure)
    request = pb.PowerOnRequest(
        post_start=hooks.gather(given),
        ready=hooks.probe(ready_exec, ready_tcp, ready_timeout),
        guest_credentials=hooks.credentials(guest_credentials) if guest_credentials else None,
        reason=reason,
    )
    judge = verdict.exit_code_if_ready if request.HasField("ready") else verdict.exit_code
    async with connect(provider) as fleet:
        return await carry_out(fleet, vms, request, output=output, wait=wait, request_id=request_id, judge=judge)


@command("off")
async def off(
    vms: VMs,
    *,
    request_id: RequestId = "",
    reason: Reason = "",
    wait: Wait = True,
    provider: Provider = "",
    output: Format = Output.TABLE,
) -> ExitCode:
    """Cut the power of VMs at once, without asking their guests."""
    async with connect(provider) as fleet:
        request = pb.PowerOffRequest(reason=reason)
        return await carry_out(fleet, vms, request, output=output, wait=wait, request_id=request_id)


@command("shutdown")
async def shutdown(
    vms: VMs,
    *,
    timeout: Timeout = None,
    escalation: Escalation = "",
    save_fallback: SaveFallback = "",
    pre_stop_exec: Annotated[Texts, typer.Option(metavar="COMMAND", help=_EXEC)] = None,
    pre_stop_http: Annotated[Texts, typer.Option(metavar="URL", help=_HTTP)] = None,
    pre_stop_snapshot: Annotated[Texts, typer.Option(metavar="NAME", help=_SNAPSHOT)] = None,
    hook_file: HookFile = None,
    hook_timeout: HookTimeout = None,
    hook_failure: HookFailure = "",
    signal: Annotated[
        str,
        typer.Option(metavar="agent,tools,acpi", help="Ask only by these, in this order; default: best first."),
    ] = "",
    resend: Annotated[
        timedelta | None,
        typer.Option(
            parser=options.duration, metavar="DURATION", help="How often ACPI is repeated; default 10s, 0s: never."
        ),
    ] = None,
    force_after: Annotated[
        Timestamp | None,
        typer.Option(parser=options.moment, metavar="RFC3339", help="The moment itself, instead of a timeout."),
    ] = None,
    guest_credentials: Login = None,
    request_id: RequestId = "",
    reason: Reason = "",
    wait: Wait = True,
    provider: Provider = "",
    output: Format = Output.TABLE,
) -> ExitCode:
    """Shut VMs down: run the hooks, ask the guest, wait, and then do as --escalation says."""
    if timeout is not None and force_after is not None:
        raise usage("Say how long, in one way: --timeout or --force-after.")
    given = HookOptions(pre_stop_exec, pre_stop_http, pre_stop_snapshot, hook_file, hook_timeout, hook_failure)
    order = options.signals(signal)
    policy = pb.SignalPolicy(order=order, resend_interval=duration(resend))
    request = pb.ShutdownRequest(
        timeout=duration(timeout),
        escalation=options.escalation(escalation),
        save_fallback=options.escalation(save_fallback, "--save-fallback"),
        pre_stop=hooks.gather(given),
        signal_policy=policy if order or resend is not None else None,
        force_after=force_after,
        guest_credentials=hooks.credentials(guest_credentials) if guest_credentials else None,
        reason=reason,
    )
    async with connect(provider) as fleet:
        return await carry_out(fleet, vms, request, output=output, wait=wait, request_id=request_id)


@command("reboot")
async def reboot(
    vms: VMs,
    *,
    timeout: Timeout = None,
    escalation: RebootEscalation = "",
    request_id: RequestId = "",
    reason: Reason = "",
    wait: Wait = True,
    provider: Provider = "",
    output: Format = Output.TABLE,
) -> ExitCode:
    """Shut VMs down and start them again; the verdict tells how each went down."""
    request = pb.RebootRequest(timeout=duration(timeout), escalation=options.escalation(escalation), reason=reason)
    async with connect(provider) as fleet:
        return await carry_out(fleet, vms, request, output=output, wait=wait, request_id=request_id)
