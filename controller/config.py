"""Every setting of the controller: its default and the reason for it."""

import socket
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_settings import NoDecode

from common.addresses import is_local, mistake
from common.durations import GoDuration
from common.settings import HostPort, LogLevel, ProcessSettings, ReadableFile, comma_separated, state_home
from controller.models import GROUP
from controller.trust import Trust

LeaseDuration = Annotated[GoDuration, Field(ge=timedelta(seconds=4), le=timedelta(minutes=5))]


def _on_this_machine(address: str) -> str:
    """Who may reach it may bring everything down, and nothing but the machine guards it."""
    if address and (wrong := mistake(address)):
        raise ValueError(wrong)
    if address and not is_local(address):
        raise ValueError("must be a unix socket (unix:///path) or loopback: 127.0.0.1:PORT")
    return address


PlanListen = Annotated[str, AfterValidator(_on_this_machine)]
TrustedProvider = Annotated[str, StringConstraints(pattern=r"^[-a-z0-9]+/[-a-z0-9.]+=.+$")]
TrustedProviders = Annotated[tuple[TrustedProvider, ...], NoDecode, BeforeValidator(comma_separated)]
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where a pod finds the namespace that it runs in."""


def _own_namespace() -> str:
    return NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else "default"


def _identity() -> str:
    """A pod's host name is unique, and a container restarted in it resumes its lead at once. Other hosts may run
    several controllers."""
    host = socket.gethostname()
    return host if NAMESPACE_FILE.exists() else f"{host}-{uuid.uuid4().hex[:8]}"


class Settings(ProcessSettings):
    """The controller's settings."""

    manifests: Path | None = Field(
        None, description="directory of VirtualMachine and Provider manifests (YAML); edits are followed"
    )
    check: Path | None = Field(
        None,
        description="say what is wrong with the manifests in this directory or file, and end: with 0 nothing is, with "
        "1 there are errors, with 3 warnings alone, with 2 it cannot be read",
    )
    state_dir: Path = Field(
        default_factory=lambda: state_home() / "controller",
        description="keeps the records of runs of plans and, beside --manifests, each resource's status; one "
        "controller process a directory",
    )
    secrets_dir: Path | None = Field(
        None, description="with --manifests: guest credentials, as <namespace>/<name>/username and .../password"
    )

    kubernetes: bool = Field(False, description="resources come from a Kubernetes API instead of a directory")
    kubeconfig: ReadableFile | None = Field(
        None, description="how to reach it; without it, as the pod's ServiceAccount"
    )
    namespace: str = Field("", description="with --kubernetes: only resources of this namespace; empty: of all")
    api_group: Literal["infra.virtrigaud.io", "infra.vmpower"] = Field(
        GROUP, description="the API group of the resources: the other one where the default's is another controller's"
    )
    lease_namespace: str = Field(default_factory=_own_namespace, description="where the leader's Lease is")
    lease_name: str = Field("vmpower", min_length=1, description="controllers that share it take turns")
    lease_duration: LeaseDuration = Field(
        timedelta(seconds=15), description="how long a leader that vanished without a word keeps the others waiting"
    )
    identity: str = Field(default_factory=_identity, min_length=1, description="who we are in the Lease")

    trusted_providers: TrustedProviders = Field(
        (),
        description="Providers of the operator's beside those of --lease-namespace, as NAMESPACE/NAME=ENDPOINT, "
        "separated by commas: they alone are given guests' passwords, are reached at sockets and by --tls-cert. With "
        "--manifests, empty: all",
    )
    tls_ca: Path | None = Field(
        None, description="the CA of providers' certificates, PEM, for Providers with tls.controllerCertificate"
    )
    tls_cert: Path | None = Field(None, description="the controller's certificate for them, PEM")
    tls_key: Path | None = Field(None, description="its key, PEM; all three are re-read when they change")

    self_namespace: str = Field(
        "",
        description="plans of this namespace may bring down what the controller runs on, after all else (self: Last): "
        "with --kubernetes all nodes of the cluster, which it then reads; empty: none may",
    )
    listen: PlanListen = Field(
        "",
        description="where plans are served (PlanService): unix:///path, for its owner and group, or loopback; empty: "
        "nowhere",
    )
    health_listen: HostPort = Field("", description="host:port for gRPC health checks, without TLS; empty: none")
    metrics_listen: HostPort = Field("", description="host:port for Prometheus; empty: no metrics are served")
    log_level: LogLevel = Field("info", description="how much is logged")
    workers: int = Field(
        16, ge=1, le=1000, description="how many VMs are attended to at the same moment; waiting takes no worker"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if [self.kubernetes, self.manifests is not None, self.check is not None].count(True) != 1:
            raise ValueError("give either --kubernetes, --manifests DIR or --check PATH")
        if self.namespace and not self.kubernetes:
            raise ValueError("--namespace is for --kubernetes; of a directory, all manifests count")
        if self.namespace and self.self_namespace not in {"", self.namespace}:
            raise ValueError("--self-namespace names a namespace whose plans --namespace leaves out")
        files = (self.tls_ca, self.tls_cert, self.tls_key)
        if any(files) and not all(files):
            raise ValueError("--tls-ca, --tls-cert and --tls-key belong together: give all three")
        return self

    @property
    def trust(self) -> Trust:
        """Which Providers are the operator's."""
        return Trust(
            namespace=self.lease_namespace if self.kubernetes else "",
            providers=frozenset(self.trusted_providers),
            everybody=not self.kubernetes and not self.trusted_providers,
            files=not self.kubernetes,
            certificate=self.tls_cert is not None,
        )
