"""The resources that people write: `VirtualMachine`, `Provider`, `PowerPlan` and `PowerRun` of
infra.virtrigaud.io/v1beta1.

YAML spells them in camelCase. Fields of a spec that are not known here are kept as they are: the same
manifest may serve another controller too. Everything is immutable.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from common import urls
from common.addresses import is_local, mistake
from common.durations import Interval, Timeout
from common.grants import Right, Scope
from controller.annotations import MAX_REASON, PAUSED, REASON, REBIND, ours
from controller.enums import DesiredPower, Escalation, FailurePolicy, SaveFallback, Signal
from controller.fields import Model, Name, Text
from controller.run_status import PowerRunStatus
from controller.status_models import Condition, ProviderStatus, VirtualMachineStatus
from plans.model import MOST_TIERS, PlanSpec
from plans.model import Name as TierName

GROUP: Final = "infra.virtrigaud.io"
API_VERSION = f"{GROUP}/v1beta1"
BESIDE: Final = "infra.vmpower"
"""The same resources in a group of their own: for a cluster where GROUP is another controller's (ADR 23)."""
GROUPS = (GROUP, BESIDE)
ApiVersion = Literal["infra.virtrigaud.io/v1beta1", "infra.vmpower/v1beta1"]


HANDLERS = ("exec", "httpGet", "snapshot")
"""What a hook can do, in the order in which one that names several does them."""


def _in_order(value: Any) -> Any:
    """One hook is written by itself, several as `{hooks: [...]}`: a schema can describe one form only."""
    if isinstance(value, list):
        raise ValueError("write several hooks as {hooks: [...]}")  # noqa: TRY004 - pydantic wants this class
    if not isinstance(value, Mapping):
        raise ValueError("must be a map: one hook, or {hooks: [...]}")  # noqa: TRY004 - as above
    if "hooks" not in value:
        return _one_for_each_handler(value)
    if len(value) > 1:
        raise ValueError("give either one hook, or hooks alone")
    return value["hooks"]


def _one_for_each_handler(written: Mapping[str, Any]) -> list[Any]:
    """`{}` is no hook; one with several handlers is as many hooks, each with the timeout and the failurePolicy."""
    named = [handler for handler in HANDLERS if handler in written]
    if len(named) < 2:
        return [written] if written else []
    if "name" in written:
        raise ValueError("a name is for one of exec, httpGet and snapshot; write several hooks as {hooks: [...]}")
    shared = {name: part for name, part in written.items() if name not in HANDLERS}
    return [shared | {handler: written[handler]} for handler in named]


class ExecAction(Model):
    """Runs a program in the guest; no shell in between."""

    command: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_a_program(self) -> Self:
        if not self.command[0]:
            raise ValueError("the program, the first item of command, must not be empty")
        return self


class HttpGetAction(Model):
    """Calls a URL, written whole or, as Kubernetes does, as scheme, host, port and path. Without a host it is the VM's
    own address, as its provider knows it when the hook runs."""

    url: str = ""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    expect_status: Annotated[int, Field(ge=0, le=599)] = 0
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    host: str = ""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    path: str = ""

    @field_validator("url")
    @classmethod
    def _is_one(cls, url: str) -> str:
        if url and (wrong := urls.mistake(url)):
            raise ValueError(wrong)
        return url

    @model_validator(mode="after")
    def _has_a_target(self) -> Self:
        if bool(self.url) == bool(self.host) and (self.url or self.port is None):
            raise ValueError("give either url, or port with path; host is the VM's own address unless it is written")
        return self

    @property
    def target(self) -> str:
        if self.url:
            return self.url
        host = f"[{self.host}]" if ":" in self.host and not self.host.startswith("[") else self.host
        port = f":{self.port}" if self.port else ""
        return f"{self.scheme.lower()}://{host}{port}/{self.path.lstrip('/')}"


class SnapshotAction(Model):
    """Takes a snapshot. An empty name lets the provider choose one."""

    name: str = ""
    description: str = ""
    include_memory: bool = False


class Hook(Model):
    """Something to do before a VM goes down or after it came up: exactly one of exec, httpGet, snapshot."""

    name: Annotated[str, Field(max_length=63)] = ""
    exec: ExecAction | None = None
    http_get: HttpGetAction | None = None
    snapshot: SnapshotAction | None = None
    timeout: Timeout | None = None
    failure_policy: FailurePolicy = FailurePolicy.CONTINUE

    @model_validator(mode="after")
    def _one_handler(self) -> Self:
        if sum(handler is not None for handler in (self.exec, self.http_get, self.snapshot)) != 1:
            raise ValueError("give exactly one of exec, httpGet and snapshot")
        return self


def _unique_names(hooks: tuple[Hook, ...]) -> tuple[Hook, ...]:
    names = [hook.name or f"hook-{place}" for place, hook in enumerate(hooks, 1)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"two hooks are named {twice!r}")
    return hooks


Hooks = Annotated[tuple[Hook, ...], Field(max_length=32), BeforeValidator(_in_order), AfterValidator(_unique_names)]


class SignalPolicy(Model):
    """How the guest is asked: only these signals in this order (empty: all it can hear), ACPI how often."""

    order: tuple[Signal, ...] = ()
    resend_interval: Interval | None = None


class SecretRef(Model):
    """Names a secret beside the VM, with `username` and `password`."""

    name: Name


class Lifecycle(Model):
    """How a VM goes down and comes up. A timeout of None is the provider's default; `save_fallback` is what happens to
    one that cannot be saved, NEVER if it is None."""

    graceful_shutdown_timeout: Timeout | None = None
    escalation: Escalation | None = None
    save_fallback: SaveFallback | None = None
    pre_stop: Hooks = ()
    post_start: Hooks = ()
    signal_policy: SignalPolicy = SignalPolicy()
    guest_credentials_secret_ref: SecretRef | None = None

    @model_validator(mode="after")
    def _falls_back_from_save(self) -> Self:
        if self.save_fallback is not None and self.escalation is not Escalation.SAVE:
            raise ValueError("saveFallback has no meaning unless escalation is Save")
        return self


class ProviderRef(Model):
    """Names a Provider; without a namespace, one beside the VM."""

    name: Name
    namespace: Name | None = None


class VirtualMachineSpec(Model):
    """What an owner wants of a VM. A power state of None leaves its power to others."""

    provider_ref: ProviderRef
    vm_name: str = ""
    power_state: DesiredPower | None = None
    lifecycle: Lifecycle = Lifecycle()

    @model_validator(mode="after")
    def _off_asks_nobody(self) -> Self:
        if self.power_state is DesiredPower.OFF and self.lifecycle.escalation is Escalation.ASK:
            raise ValueError("escalation Ask has no meaning with powerState Off, which cuts the power at once")
        return self


class Tls(Model):
    """What both sides prove by who they are (mutual TLS), in one of three ways: a Secret in the Provider's namespace,
    with `ca.crt`, `tls.crt` and `tls.key`; the controller's own certificate; or, in a directory of manifests, PEM
    files. All are read again when they change."""

    ca_file: Text | None = None
    cert_file: Text | None = None
    key_file: Text | None = None
    secret_ref: SecretRef | None = None
    controller_certificate: bool = False

    @property
    def files(self) -> tuple[str, str, str] | None:
        """The CA, the certificate and its key; None where one of them is not written."""
        if self.ca_file and self.cert_file and self.key_file:
            return self.ca_file, self.cert_file, self.key_file
        return None

    @property
    def is_in_one_way(self) -> bool:
        """Whether exactly one of the three ways is written."""
        return (self.files is not None) + (self.secret_ref is not None) + self.controller_certificate == 1


def _can_be_connected_to(endpoint: str) -> str:
    if wrong := mistake(endpoint):
        raise ValueError(wrong)
    return endpoint


Target = Annotated[Text, AfterValidator(_can_be_connected_to)]
"""A gRPC target."""


class Runtime(Model):
    """Where the provider's gRPC server listens. Without an endpoint it is another controller's: that is not known, and
    what else is written here means nothing to this one."""

    endpoint: Target | None = None
    tls: Tls | None = None

    @model_validator(mode="after")
    def _tls_off_this_machine(self) -> Self:
        if self.endpoint is None:
            return self
        if self.tls is None and not is_local(self.endpoint):
            raise ValueError("tls is needed for any address but a unix socket or loopback")
        if self.tls is not None and not self.tls.is_in_one_way:
            raise ValueError("tls needs caFile, certFile and keyFile, or secretRef, or controllerCertificate: true")
        return self


class Grant(BaseModel):
    """The base of what grants access: a field that is not known is refused, for it may have been meant to narrow it."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, frozen=True, extra="forbid")


class NamespaceSelector(Grant):
    """Namespaces by their labels, all of these; none: every namespace."""

    match_labels: Annotated[dict[str, str], Field(max_length=100)] = Field(default_factory=dict)


class Namespaces(Grant):
    """Some namespaces, by their names or by their labels."""

    names: Annotated[tuple[Name, ...], Field(max_length=1000)] = ()
    selector: NamespaceSelector | None = None

    @model_validator(mode="after")
    def _in_one_way(self) -> Self:
        if bool(self.names) == (self.selector is not None):
            raise ValueError("give either names or selector")
        return self


class AccessRule(Grant):
    """What resources of other namespaces may have done to VMs of a provider; without `vms`, to all of them."""

    namespaces: Namespaces
    vms: Scope | None = None
    allow: Annotated[tuple[Right, ...], Field(min_length=1, max_length=4)]


class ProviderSpec(Model):
    """One provider. `type` and `endpoint` (the hypervisor's address) inform people only. `access` says which resources
    of other namespaces it serves; those of its own it serves always."""

    type: Text
    endpoint: str = ""
    runtime: Runtime = Runtime()
    access: Annotated[tuple[AccessRule, ...], Field(max_length=100)] = ()


def _texts(written: Any) -> Any:
    """Labels that select are text; a number that another tool's manifest has there selects nothing."""
    if not isinstance(written, Mapping):
        return written or {}
    return {name: value for name, value in written.items() if isinstance(value, str)}


class Metadata(Model):
    """A resource's identity. All but its names and annotations are the source's business; `leaving` says that it is
    deleted, and waits: a VirtualMachine for its VM to be brought down, a Provider for those that use it. `manager` is
    the program that last wrote what is wanted, where the source knows. Of its annotations only ours are kept."""

    name: Name
    namespace: Annotated[Name, Field(max_length=63)] = "default"
    uid: str = ""
    generation: int = 0
    leaving: bool = False
    manager: str = ""
    labels: Annotated[dict[str, str], BeforeValidator(_texts)] = Field(default_factory=dict)
    annotations: Annotated[dict[str, str], AfterValidator(ours)] = Field(default_factory=dict)

    @property
    def paused(self) -> bool:
        """Whether its owner wants the VM left alone for now."""
        return self.annotations.get(PAUSED) == "true"

    @property
    def reason(self) -> str:
        """Why, in the words of whoever annotated it."""
        return self.annotations.get(REASON, "")[:MAX_REASON]

    @property
    def rebind(self) -> str:
        """The id of the VM that takes the place of the one that it is bound to; empty: none."""
        return self.annotations.get(REBIND, "")


class VirtualMachine(Model):
    """One VM as its owner declared it."""

    api_version: ApiVersion
    kind: Literal["VirtualMachine"]
    metadata: Metadata
    spec: VirtualMachineSpec
    status: VirtualMachineStatus = VirtualMachineStatus()

    @property
    def vm_name(self) -> str:
        """The VM's id or unique name at its provider."""
        return self.spec.vm_name or self.metadata.name

    @property
    def provider_name(self) -> str:
        """The Provider that the spec names, as `namespace/name`."""
        reference = self.spec.provider_ref
        return f"{reference.namespace or self.metadata.namespace}/{reference.name}"

    @property
    def wanted(self) -> DesiredPower | None:
        return DesiredPower.OFF_GRACEFUL if self.metadata.leaving else self.spec.power_state


class Provider(Model):
    """One provider as its operator declared it."""

    api_version: ApiVersion
    kind: Literal["Provider"]
    metadata: Metadata
    spec: ProviderSpec
    status: ProviderStatus = ProviderStatus()


class PowerPlanStatus(Model):
    """Nothing: a plan does nothing by itself."""

    conditions: tuple[Condition, ...] = ()


class PowerPlan(Model):
    """What is brought down and in which order, as plans/model.py has it."""

    api_version: ApiVersion
    kind: Literal["PowerPlan"]
    metadata: Metadata
    spec: PlanSpec
    status: PowerPlanStatus = PowerPlanStatus()


class PlanRef(Grant):
    """Names a PowerPlan beside the run."""

    name: Name


class PowerRunSpec(Grant):
    """One execution of a plan; with `tiers`, of those alone. An emergency takes over a run that is none; else the
    second of two is refused. `trigger` is the controller's own word of what began it."""

    plan_ref: PlanRef
    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""
    emergency: bool = False
    tiers: Annotated[tuple[TierName, ...], Field(max_length=MOST_TIERS)] = ()
    trigger: Annotated[str, Field(max_length=MAX_REASON)] = ""


class PowerRun(Model):
    """One execution, once; its status is the record."""

    api_version: ApiVersion
    kind: Literal["PowerRun"]
    metadata: Metadata
    spec: PowerRunSpec
    status: PowerRunStatus = PowerRunStatus()


Resource = VirtualMachine | Provider | PowerPlan | PowerRun
Status = VirtualMachineStatus | ProviderStatus | PowerPlanStatus | PowerRunStatus
KINDS: dict[str, type[VirtualMachine] | type[Provider] | type[PowerPlan] | type[PowerRun]] = {
    "VirtualMachine": VirtualMachine,
    "Provider": Provider,
    "PowerPlan": PowerPlan,
    "PowerRun": PowerRun,
}
OF_PLANS = frozenset({"PowerPlan", "PowerRun"})
"""The kinds that the host of plans has to do with."""
