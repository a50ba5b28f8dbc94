"""Every setting of a provider: its default, its unit and the reason for it. Durations are those of Go."""

import re
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from common.durations import Duration, Timeout
from common.settings import HostPort, Listen, LogLevel, ProcessSettings, comma_separated, state_home
from providers.core.adapter import Escalation
from providers.core.lanes import AT_ONCE, PER_HOST, SLOW, Bound, Lane, bounds


def _typed(rules: tuple[str, ...]) -> tuple[str, ...]:
    """A URI says by itself what it is; another name without a type is of an earlier configuration."""
    return tuple(f"uri:{rule}" if "://" in rule and not rule.startswith("uri:") else _known(rule) for rule in rules)


def _known(rule: str) -> str:
    kind, colon, name = rule.partition(":")
    if "\0" in rule or (colon and (kind not in NAME_TYPES or not name)):
        raise ValueError(f"{rule!r} is no name of a certificate: write cn:NAME, dns:NAME or uri:NAME")
    return rule


def _known_client(rule: str) -> str:
    return rule if re.fullmatch(r"uid:\d+", rule, re.ASCII) else _known(rule)


def _for_any_vm(escalation: Escalation) -> Escalation:
    if escalation is Escalation.SAVE:
        raise ValueError("SAVE is no default, for not every VM's memory can be saved: requests name it")
    return escalation


NAME_TYPES = ("cn", "dns", "uri")


def _network(text: Any) -> Any:
    """The network that an address lies in, too: 192.0.2.7/24."""
    return ip_network(text, strict=False) if isinstance(text, str) else text


DefaultEscalation = Annotated[Escalation, AfterValidator(_for_any_vm)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(comma_separated)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(comma_separated)]
Operators = Annotated[Names, AfterValidator(_typed)]
Delegate = Annotated[str, AfterValidator(_known_client)]
Delegates = Annotated[tuple[Delegate, ...], NoDecode, BeforeValidator(comma_separated)]
Uids = Annotated[tuple[Annotated[int, Field(ge=0)], ...], NoDecode, BeforeValidator(comma_separated)]


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
    default_escalation: DefaultEscalation = Field(
        Escalation.FORCE, description="FORCE, NEVER or ASK where the request names none; SAVE is for requests to name"
    )
    resend_interval: Duration = Field(
        timedelta(seconds=10), description="how often ACPI is repeated: a booting guest drops it; 0s: never"
    )
    power_timeout: Timeout = Field(
        timedelta(seconds=60), description="how long the hypervisor may take to switch a VM on or hard off"
    )
    save_timeout: Timeout = Field(
        timedelta(minutes=10),
        description="how long the hypervisor may take to save a VM's memory, which is written to disk; after that the "
        "save has failed",
    )

    max_reads: int = Field(
        AT_ONCE[Lane.READ], ge=1, description="reads of the hypervisor that may be under way at once"
    )
    max_asks: int = Field(AT_ONCE[Lane.ASK], ge=1, description="guests that may be asked at once")
    max_programs: int = Field(
        AT_ONCE[Lane.PROGRAM], ge=1, description="calls to programs in guests, and snapshots, at once"
    )
    max_cuts: int = Field(AT_ONCE[Lane.CUT], ge=1, description="VMs whose power may be cut at once")
    max_starts: int = Field(AT_ONCE[Lane.START], ge=1, description="VMs that may be started at once")
    max_saves: int = Field(AT_ONCE[Lane.SAVE], ge=1, description="VMs whose memory may be saved at once")
    max_per_host: int = Field(PER_HOST, ge=1, description="of each of these, how many at one host of the hypervisor")
    max_slow: int = Field(
        SLOW, ge=0, description="of each, how many more whose call was not answered within 1 s, so that others go on"
    )
    max_waiting: int = Field(
        2000,
        ge=1,
        description="shutdowns, starts and reboots that may wait for the hypervisor; more are refused and come again",
    )

    allow_guest_exec: bool = Field(False, description="let hooks run programs inside guests")
    http_hook_hosts: Names = Field(
        (), description="hosts or networks (CIDR) that HTTP hooks may call, separated by commas"
    )

    guest_networks: Networks = Field(
        (),
        description="networks (CIDR), separated by commas, in which the addresses that guests say they have count as "
        "theirs, so that HTTP hooks may call them; empty: none. Loopback, link-local and multicast addresses and this "
        "machine's own never count",
    )

    tls_cert: Path | None = Field(None, description="server certificate, PEM; re-read when it changes")
    tls_key: Path | None = Field(None, description="its key, PEM")
    tls_client_ca: Path | None = Field(None, description="the CA that signs client certificates, PEM")
    tls_client_crl: Path | None = Field(
        None, description="what that CA has revoked (CRL), PEM; looked at with each call, re-read when it changes"
    )
    max_connection_age: Timeout = Field(
        timedelta(hours=1),
        description="after so long a connection with TLS is closed once its calls have ended, and a stream ends to be "
        "opened anew",
    )
    operators: Operators = Field(
        (),
        description="names of client certificates that may change power, separated by commas: `cn:NAME`, `dns:NAME` or "
        "`uri:NAME`, each exactly as the certificate has it; all others only read",
    )
    operator_uids: Uids = Field(
        (),
        description="numbers of the users that may change power through the unix socket; other users of it only read. "
        "Empty: all that can open the socket may",
    )
    client_access: Path | None = Field(
        None, description="YAML: which of these clients may have what done to which VMs; without it, all may everything"
    )
    delegates: Delegates = Field(
        (),
        description="clients that may name others in on_behalf_of, such as a controller: as in --operators, or `uid:N`",
    )
    audit_log: Path | None = Field(
        None,
        description="a line of JSON for each call that would change something; without a file, among the logs",
    )
    socket_group: str = Field("", description="the group that may open the unix socket; empty: the process's own")

    max_request_bytes: int = Field(1 << 20, gt=0, description="a longer request is refused: no real one comes near")
    keep_operations: Duration = Field(timedelta(days=30), description="how long ended operations stay in the journal")
    drain_timeout: Duration = Field(
        timedelta(seconds=5),
        description="how long open calls may go on after SIGTERM; operations resume at the next start",
    )

    @property
    def bounds(self) -> Mapping[Lane, Bound]:
        """How many calls of each kind may be under way towards the hypervisor."""
        at_once = {lane: getattr(self, f"max_{lane.value}") for lane in Lane}
        return bounds(at_once, self.max_per_host, self.max_slow)
