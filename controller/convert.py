"""What manifests say, as the contract's requests; what a manifest leaves out is left to the provider."""

from collections.abc import Sequence
from datetime import datetime

from client.times import duration, timestamp
from controller.models import Hook, Lifecycle
from controller.source import GuestCredentials
from protos.power.v1 import power_pb2 as pb


def credentials(login: GuestCredentials | None) -> pb.GuestCredentials | None:
    return pb.GuestCredentials(username=login.username, password=login.password) if login else None


def hooks(declared: Sequence[Hook]) -> list[pb.Hook]:
    return [_hook(hook) for hook in declared]


def _hook(hook: Hook) -> pb.Hook:
    program, get, taken = hook.exec, hook.http_get, hook.snapshot
    message = pb.Hook(
        name=hook.name,
        failure_policy=pb.FailurePolicy.Value(f"FAILURE_POLICY_{hook.failure_policy.name}"),
        timeout=duration(hook.timeout),
        exec=pb.ExecHook(command=program.command) if program else None,
        http_get=pb.HttpGetHook(url=get.target, headers=get.headers, expect_status=get.expect_status) if get else None,
    )
    if taken:
        wanted = pb.SnapshotHook(name=taken.name, description=taken.description, include_memory=taken.include_memory)
        message.snapshot.CopyFrom(wanted)
    return message


def power_on_request(
    vm_id: str, lifecycle: Lifecycle, request_id: str, login: GuestCredentials | None = None
) -> pb.PowerOnRequest:
    return pb.PowerOnRequest(
        vm=vm_id,
        request_id=request_id,
        post_start=hooks(lifecycle.post_start),
        guest_credentials=credentials(login),
    )


def shutdown_request(
    vm_id: str,
    lifecycle: Lifecycle,
    request_id: str,
    force_after: datetime | None,
    login: GuestCredentials | None = None,
) -> pb.ShutdownRequest:
    """`force_after` counts instead of the timeout where it is known."""
    policy, escalation, fallback = lifecycle.signal_policy, lifecycle.escalation, lifecycle.save_fallback
    return pb.ShutdownRequest(
        vm=vm_id,
        request_id=request_id,
        timeout=duration(lifecycle.graceful_shutdown_timeout),
        force_after=timestamp(force_after),
        escalation=pb.Escalation.Value(f"ESCALATION_{escalation.name if escalation else 'UNSPECIFIED'}"),
        save_fallback=pb.Escalation.Value(f"ESCALATION_{fallback.name if fallback else 'UNSPECIFIED'}"),
        pre_stop=hooks(lifecycle.pre_stop),
        signal_policy=pb.SignalPolicy(
            order=[pb.Signal.Value(f"SIGNAL_{signal.name}") for signal in policy.order],
            resend_interval=duration(policy.resend_interval),
        ),
        guest_credentials=credentials(login),
    )
