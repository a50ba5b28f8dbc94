"""The Source protocol: where resources come from and their status goes. The core knows nothing else of it.

A source gives every resource a uid (its identity, for as long as its status is remembered) and a generation
(counts changes of its spec), and keeps its status across restarts of everything.
"""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from common.text import clean
from controller.models import PowerRun, PowerRunSpec, Resource, Status


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What names a resource."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def key_of(resource: Resource) -> Key:
    return Key(resource.kind, resource.metadata.namespace, resource.metadata.name)


def resource_name(key: Key, manager: str) -> str:
    """A resource, with the program that wrote what is asked for where that is known: what providers are told."""
    return f"{key} ({clean(manager)})" if manager else str(key)


@dataclass(frozen=True, slots=True)
class Applied:
    """A resource, new or with another spec. Its status counts only the first time a uid is seen: from then
    on the controller is the only one who writes it, and knows it better."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class Rejected:
    """A resource whose spec, of this generation, cannot be acted upon, and why; `status` is what was last written. The
    spec before it stays in effect. `reason` is that of the condition."""

    key: Key
    generation: int
    message: str
    status: Status
    reason: str = "InvalidSpec"


@dataclass(frozen=True, slots=True)
class Deleted:
    """A resource that is no longer declared. Its VM stays as it is, and a shutdown of it that is under way is given
    up."""

    key: Key


@dataclass(frozen=True, slots=True)
class Decided:
    """A person's decision about the running shutdown of a VM that has been applied. `by` names the person or program,
    where the source knows. Once it was carried out or refused, `Source.acknowledge` is called."""

    key: Key
    text: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class Synced:
    """All resources that existed at the start have been applied; work may begin."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """The labels of a namespace, new or changed; none of one that is gone."""

    namespace: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Standby:
    """Another controller leads, or has led: what this one knew of its work is old. It comes before all that there is.
    One that lost the lead, and has it again without this, knows best."""


Change = Applied | Rejected | Deleted | Decided | Labelled | Synced | Standby


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a resource, for people. `reason` is one CamelCase word, `message` one line, whatever
    guests and hypervisors say in it."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", clean(self.message))


@dataclass(frozen=True, slots=True)
class GuestCredentials:
    """A login in the guest. Read at use, kept nowhere."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TlsSecret:
    """What a Provider's Secret holds, in PEM: who vouches for the provider, the controller's certificate, its key."""

    ca: bytes = field(repr=False)
    cert: bytes = field(repr=False)
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class UpsSecret:
    """A login at upsd. `ca`, in PEM, is the authority of its certificate; None: TLS is not required."""

    username: str
    password: str = field(repr=False)
    ca: str | None = field(default=None, repr=False)


class ResourceGone(Exception):
    """The status has no place to be written to: the resource was deleted."""


class SecretUnavailable(Exception):
    """A secret that a resource names cannot be read; the message says who acts next."""


class SourceError(Exception):
    """The source cannot go on, or cannot do this now; the message says who acts next."""


class LeadLost(SourceError):
    """Another controller may lead now: stop all work, then call `Source.watch` again."""


class Source(Protocol):
    """Where resources come from: a cluster or a directory. The core does not know which."""

    @property
    def shared(self) -> bool:
        """Whether controllers elsewhere may go on with this one's work, by what the statuses say."""

    def watch(self) -> AsyncIterator[Change]:
        """What there is, then `Synced`, then each change, for ever.

        Yields nothing but `Standby` while another controller leads. A change may be repeated; the latest spec of a
        resource must not be left out.

        Raises:
            LeadLost: it is not ours to lead any more.
            SourceError: it cannot be read at all; the process ends.
        """

    def is_gone(self, key: Key) -> bool:
        """Whether a resource that was there once is there no more, for certain; to be asked once all is known."""

    async def close(self) -> None:
        """All work has ended: let another controller lead, and give back what is held."""

    async def write_status(self, key: Key, status: Status) -> None:
        """Keep `status`; when this returns it outlives the process.

        Raises:
            ResourceGone: nothing is left to write it to.
            SourceError: it could not be written now; the caller tries again.
        """

    async def emit_event(self, key: Key, event: Event) -> None:
        """Show people an event; best effort, raises nothing."""

    async def acknowledge(self, decided: Decided) -> None:
        """Remove a decision that was carried out or refused, so that it is not yielded again.

        Raises:
            SourceError: that could not be written now; the caller tries again.
        """

    async def remove_finalizer(self, key: Key) -> None:
        """Let the API delete a resource that is leaving: its VM is down.

        Raises:
            SourceError: that could not be written now; the caller tries again.
        """

    async def hold_provider(self, key: Key, held: bool) -> None:
        """Keep a Provider from being deleted while resources are bound to its VMs; costs nothing where that is so
        already.

        Raises:
            SourceError: that could not be written now; the caller tries again.
        """

    async def guest_credentials(self, namespace: str, name: str) -> GuestCredentials:
        """Read a login in the guest, at each use.

        Raises:
            SecretUnavailable: there is no such secret, or it holds no login.
            SourceError: it cannot be read now; the caller tries again.
        """

    async def ups_secret(self, namespace: str, name: str) -> UpsSecret:
        """Read what a trigger of a PowerPlan of this namespace names, at each login.

        Raises:
            SecretUnavailable: there is no such secret, or it is not meant for this.
            SourceError: it cannot be read now; the caller tries again.
        """

    async def make_run(self, name: str, namespace: str, spec: PowerRunSpec) -> PowerRun:
        """Declare a run, where controllers elsewhere may have to go on with it.

        Raises:
            SourceError: that cannot be done now, or is done already.
        """

    async def delete_run(self, key: Key) -> None:
        """Delete a PowerRun that is over, and that was declared here.

        Raises:
            SourceError: that could not be done now.
        """

    async def own_machines(self) -> Collection[str]:
        """The UUIDs, as their firmware tells them, of the machines that this controller runs on, or may run on next. To
        be asked once all is known, and only where plans may bring them down.

        Raises:
            SourceError: they cannot be read, or not now.
        """

    async def tls_secret(self, namespace: str, name: str) -> TlsSecret:
        """Read what a Provider of this namespace names in `tls.secretRef`.

        Raises:
            SecretUnavailable: there is no such secret, or it holds something else.
            SourceError: it cannot be read now; the caller tries again.
        """
