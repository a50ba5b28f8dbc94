"""Every setting of a provider: its default, its unit and the reason for it. Durations are those of Go."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from common.durations import Duration, Timeout
from common.settings import HostPort, Listen, LogLevel, ProcessSettings, state_home
from providers.core.adapter import Escalation


def _names(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]


class Settings(ProcessSettings):
    """What every provider can be told. A hypervisor adds its own in a subclass beside its adapter."""

    listen: Listen = Field(description="where to serve gRPC: unix:///path or host:port")
    metrics_listen: HostPort = Field("", description="host:port for Prometheus; empty: no metrics are served")
    health_listen: HostPort = Field(
        "",
        description="host:port for grpc.health.v1 alone, without TLS, as kubelets probe it; empty: not served so",
    )
    state_dir: Path = Field(
        default_factory=state_home, description="keeps the journal; one provider process a directory"
    )
    log_level: LogLevel = Field("info", description="debug, info, warning or error")

    default_timeout: Timeout = Field(timedelta(seconds=60), description="grace period where the request names none")
    default_escalation: Escalation = Field(
        Escalation.FORCE, description="FORCE, NEVER or ASK where the request names none"
    )
    resend_interval: Duration = Field(
        timedelta(seconds=10), description="how often ACPI is repeated: a booting guest drops it; 0s: never"
    )
    power_timeout: Timeout = Field(
        timedelta(seconds=60), description="how long the hypervisor may take to switch a VM on or hard off"
    )

    allow_guest_exec: bool = Field(False, description="let hooks run programs inside guests")
    http_hook_hosts: Names = Field(
        (), description="hosts or networks (CIDR) that HTTP hooks may call, separated by commas"
    )

    tls_cert: Path | None = Field(None, description="server certificate, PEM; re-read when it changes")
    tls_key: Path | None = Field(None, description="its key, PEM")
    tls_client_ca: Path | None = Field(None, description="the CA that signs client certificates, PEM")
    operators: Names = Field(
        (),
        description="names (CN or SAN) of client certificates that may change power; all others only read",
    )

    max_request_bytes: int = Field(1 << 20, gt=0, description="a longer request is refused: no real one comes near")
    keep_operations: Duration = Field(timedelta(days=30), description="how long ended operations stay in the journal")
    drain_timeout: Duration = Field(
        timedelta(seconds=5),
        description="how long open calls may go on after SIGTERM; operations resume at the next start",
    )
