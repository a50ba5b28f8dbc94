"""Every setting of a provider: its default, its unit and the reason for it.

Each is a flag (`--state-dir`), a variable (`VMPOWER_STATE_DIR`) or a file named `VMPOWER_STATE_DIR` in
the directory that `VMPOWER_CREDENTIALS_DIR` names; the first one found counts. Secrets belong in files.
Durations are written as Go writes them: `90s`, `1m30s`.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self

import durationpy
from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from providers.adapter import Escalation

MAX_TIMEOUT = timedelta(hours=24)
"""The longest grace period and hook timeout; a longer one is taken for a mistake in the unit."""


def _duration(value: Any) -> Any:
    return durationpy.from_str(value) if isinstance(value, str) else value


def _names(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_duration), Field(ge=timedelta(0))]
Timeout = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta(0), le=MAX_TIMEOUT)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]


def _state_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "vmpower"


class Settings(BaseSettings):
    """What every provider can be told. A hypervisor adds its own in a subclass beside its adapter."""

    model_config = SettingsConfigDict(
        env_prefix="VMPOWER_",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        frozen=True,
        extra="ignore",
    )

    listen: str = Field(description="where to serve gRPC: unix:///path or host:port")
    metrics_listen: str = Field(
        "", pattern=r"^(.+:\d+)?$", description="host:port for Prometheus; empty: no metrics are served"
    )
    health_listen: str = Field(
        "",
        pattern=r"^(.+:\d+)?$",
        description="host:port for grpc.health.v1 alone, without TLS, as kubelets probe it; empty: not served so",
    )
    state_dir: Path = Field(
        default_factory=_state_home, description="keeps the journal; one provider process a directory"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")

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

    @classmethod
    def load(cls, prog: str, args: list[str] | None = None) -> Self:
        """Read flags, environment and credential files; on a mistake print which one and exit with 2."""
        try:
            return cls(
                _cli_parse_args=sys.argv[1:] if args is None else args,
                _cli_prog_name=prog,
                _secrets_dir=os.environ.get("VMPOWER_CREDENTIALS_DIR"),
            )
        except ValidationError as error:
            _explain(prog, error)


def _explain(prog: str, error: ValidationError) -> NoReturn:
    for problem in error.errors():
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        flag, variable = "--" + name.replace("_", "-"), "VMPOWER_" + name.upper()
        print(f"{prog}: {flag} ({variable}): {problem['msg']}", file=sys.stderr)
    sys.exit(2)
