"""The source for clusters: resources come from a Kubernetes API and their status goes back to it.

One controller of several leads (lease.py); it alone lists, watches and writes.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from kubernetes.aio import client

from controller.annotations import DECISION
from controller.models import GROUP, PowerRun, PowerRunSpec, Status
from controller.source import (
    Applied,
    Change,
    Decided,
    Deleted,
    Event,
    GuestCredentials,
    Key,
    Labelled,
    LeadLost,
    Rejected,
    ResourceGone,
    SecretUnavailable,
    SourceError,
    Standby,
    Synced,
    TlsSecret,
    UpsSecret,
)
from controller.sources.kubernetes import resources
from controller.sources.kubernetes.api import (
    JSON_PATCH,
    NAMESPACES,
    PLURALS,
    VERSION,
    Api,
    ApiError,
    Object,
    Operations,
    connect,
)
from controller.sources.kubernetes.event_recorder import EventRecorder
from controller.sources.kubernetes.finalizers import Finalizers, hold, removal
from controller.sources.kubernetes.lease import Lease, Terms
from controller.sources.kubernetes.reflector import Gone, Item, Listed, Reflector, Seen

UPS_TYPE = "vmpower/nut"
"""The type of a Secret with a login at upsd."""

log = structlog.get_logger()


class KubernetesSource:
    """Resources of one namespace, or of all where `namespace` is empty, in this API group."""

    shared = True

    def __init__(self, kubeconfig: Path | None, namespace: str, terms: Terms, group: str = GROUP) -> None:
        self._kubeconfig, self._namespace, self._terms, self._group = kubeconfig, namespace, terms, group
        self._connection: client.ApiClient | None = None

    async def _connect(self) -> None:
        if self._connection is None:
            self._connection = await connect(self._kubeconfig)
            self._api = Api(self._connection, self._namespace, self._group)
            self._lease = Lease(self._connection, self._terms)
            self._recorder = EventRecorder(self._api.create_event, self._terms.identity, f"{self._group}/{VERSION}")

    async def watch(self) -> AsyncIterator[Change]:
        """Nothing but `Standby` until we lead; then what there is, `Synced`, and each change.

        Raises:
            LeadLost: the lease could not be renewed.
            SourceError: neither the kubeconfig nor the pod says where the API server is; or the resources are another
                controller's.
        """
        await self._connect()
        acquiring = asyncio.create_task(self._lease.acquire())
        other = asyncio.create_task(self._lease.another_led.wait())
        try:
            await asyncio.wait([acquiring, other], return_when=asyncio.FIRST_COMPLETED)
            if self._another_led():
                yield Standby()
            leading = await acquiring
            if self._another_led():
                yield Standby()
        finally:
            for waiting in (acquiring, other):
                waiting.cancel()
            await asyncio.gather(acquiring, other, return_exceptions=True)
        self._known = _KnownObjects(self._namespace)
        finalizers = Finalizers(self._api.patch)
        items: asyncio.Queue[Item | None] = asyncio.Queue()
        kinds = [*PLURALS] if self._namespace else [*PLURALS, NAMESPACES]
        tasks = [asyncio.create_task(Reflector(self._api, kind, items.put_nowait).run()) for kind in kinds]
        for task in (leading, *tasks):
            task.add_done_callback(lambda _: items.put_nowait(None))
        try:
            while (item := await items.get()) and not leading.done():
                for change in self._changes(item, finalizers):
                    yield change
            for task in tasks:
                if task.done():  # a bug, or foreign resources; a controller that hears nothing must not keep the lead
                    task.result()
            raise LeadLost("The lease could not be renewed in time; another controller may lead.")
        finally:
            finalizers.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _another_led(self) -> bool:
        """Whether another controller has led since this was last asked."""
        led = self._lease.another_led.is_set()
        self._lease.another_led.clear()
        return led

    def is_gone(self, key: Key) -> bool:
        watched = not self._namespace or key.namespace == self._namespace
        return watched and self._known.is_seen(key.kind) and key not in self._known.latest

    def _changes(self, item: Item, finalizers: Finalizers) -> Iterator[Change]:
        match item:
            case Listed(kind, seen):
                if self._known.all_listed(kind, seen):
                    yield Synced()
            case Seen(Key(kind="Namespace", name=name), raw):
                labels = raw["metadata"].get("labels") or {}
                if self._known.are_new(name, labels):
                    yield Labelled(name, labels)
            case Gone(Key(kind="Namespace", name=name)):
                self._known.are_new(name, {})
                yield Labelled(name, {})
            case Gone(key):
                finalizers.forget(key)
                if self._known.forget(key):
                    yield Deleted(key)
            case Seen(key, raw):
                if key.kind == "VirtualMachine":
                    finalizers.keep(key, raw)
                yield from self._object_changes(key, raw)

    def _object_changes(self, key: Key, raw: Object) -> Iterator[Change]:
        if resources.is_deleted(raw) and not resources.is_leaving(raw):
            if self._known.forget(key):
                yield Deleted(key)
            return
        if self._known.is_new(key, raw):
            try:
                yield Applied(resources.resource_of(key.kind, raw))
            except resources.Invalid as invalid:
                log.warning("not acted upon", resource=str(key), error=str(invalid))
                self._recorder.record(key, raw["metadata"]["uid"], Event("Warning", "InvalidSpec", str(invalid)))
                generation, written = raw["metadata"]["generation"], resources.written_status(key.kind, raw)
                yield Rejected(key, generation, str(invalid), written)
        if self._known.is_new_decision(key, raw) and (decided := resources.decided(key, raw)):
            yield decided

    async def write_status(self, key: Key, status: Status) -> None:
        # Not a merge patch: the API ignores the uid in one, so it could not tell a resource from its successor.
        operations: Operations = [
            {"op": "test", "path": "/metadata/uid", "value": self._uid(key)},
            {"op": "add", "path": "/status", "value": status.model_dump(mode="json", by_alias=True, exclude_none=True)},
        ]
        try:
            await self._api.patch_status(key, operations)
        except ApiError as error:
            if error.status == 404:
                raise ResourceGone(str(key)) from error
            raise

    async def emit_event(self, key: Key, event: Event) -> None:
        if (raw := self._known.latest.get(key)) is not None:
            self._recorder.record(key, raw["metadata"]["uid"], event)

    async def acknowledge(self, decided: Decided) -> None:
        """Remove the annotation, unless its text has changed since."""
        path = "/metadata/annotations/" + DECISION.replace("/", "~1")  # RFC 6901
        operations = [{"op": "test", "path": path, "value": decided.text}, {"op": "remove", "path": path}]
        removed = await self._patch(decided.key, operations, gone={404, 422})
        if removed is not None:
            self._known.decision_removed(decided.key, removed)

    async def remove_finalizer(self, key: Key) -> None:
        """Remove our finalizer; those of others stay."""
        raw = self._known.latest.get(key)
        if raw is not None and resources.is_held(raw):
            await self._patch(key, removal(raw), gone={404})

    async def hold_provider(self, key: Key, held: bool) -> None:
        raw = self._known.latest.get(key)
        patch = hold(raw, held) if raw is not None else None
        if patch is not None:
            await self._patch(key, *patch, gone={404})

    async def _patch(self, key: Key, patch: Any, kind: str = JSON_PATCH, *, gone: set[int]) -> Object | None:
        """The object as it is then; None where there is nothing to patch."""
        try:
            return await self._api.patch(key, patch, kind)
        except ApiError as error:
            if error.status not in gone:
                raise
            return None

    async def guest_credentials(self, namespace: str, name: str) -> GuestCredentials:
        needs = "username and password, as text"
        username, password = await self._secret(namespace, name, ("username", "password"), needs)
        return GuestCredentials(username.decode(), password.decode())

    async def ups_secret(self, namespace: str, name: str) -> UpsSecret:
        """Only of its own type: who may write a plan is not always who may read all Secrets beside it, and could have
        any of them sent to a host of their own."""
        needs = "username, password and, for TLS, ca.crt, as text"
        fields = ("username", "password")
        found = await self._secret(namespace, name, fields, needs, optional=("ca.crt",), of_type=UPS_TYPE)
        return UpsSecret(*(part.decode() for part in found))

    async def make_run(self, name: str, namespace: str, spec: PowerRunSpec) -> PowerRun:
        key = Key("PowerRun", namespace, name)
        raw = await self._api.create(key, spec.model_dump(mode="json", by_alias=True, exclude_defaults=True))
        self._known.is_new(key, raw)
        made = resources.resource_of(key.kind, raw)
        if not isinstance(made, PowerRun):
            raise SourceError(f"What was made is no {key}.")
        return made

    async def delete_run(self, key: Key) -> None:
        """The very one that is known: what has its name by now may be another."""
        with suppress(ResourceGone):
            await self._api.delete_object(key, self._uid(key))

    async def own_machines(self) -> Collection[str]:
        """All nodes: a run may have to be gone on with on any of them."""
        return await self._api.system_uuids()

    async def tls_secret(self, namespace: str, name: str) -> TlsSecret:
        return TlsSecret(
            *await self._secret(namespace, name, ("ca.crt", "tls.crt", "tls.key"), "ca.crt, tls.crt, tls.key")
        )

    async def _secret(
        self,
        namespace: str,
        name: str,
        fields: Sequence[str],
        needs: str,
        *,
        optional: Sequence[str] = (),
        of_type: str = "",
    ) -> list[bytes]:
        """What these fields of a Secret hold, all of them text; those that are optional as far as they are there. With
        `of_type` no Secret of another type is read."""
        try:
            type_, found = await self._api.secret(namespace, name)
            if of_type not in {"", type_}:
                raise SecretUnavailable(
                    f"Secret {namespace}/{name} is not of type {of_type}; whoever owns it makes one."
                )
            there = [*fields, *(each for each in optional if each in found)]
            values = [base64.b64decode(found[each]) for each in there]
            for value in values:
                value.decode()
        except ApiError as error:
            if error.status in {403, 404}:
                raise SecretUnavailable(str(error)) from error
            raise
        except (KeyError, ValueError):  # it quotes what it could not decode
            raise SecretUnavailable(f"Secret {namespace}/{name} needs {needs}; whoever owns it mends it.") from None
        return values

    async def close(self) -> None:
        """Send the last Events, hand over, and close the connection."""
        if self._connection is not None:
            await self._recorder.close()
            await self._lease.release()
            await self._connection.close()  # type: ignore[no-untyped-call]

    def _uid(self, key: Key) -> str:
        raw = self._known.latest.get(key)
        if raw is None:
            raise ResourceGone(str(key))
        return str(raw["metadata"]["uid"])


@dataclass(slots=True)
class _SeenDecision:
    """A decision that an object bore first in the version `since`, and that we took off it in `removed`."""

    identity: tuple[str, ...]
    since: int
    removed: int | None = None

    def is_still(self, identity: tuple[str, ...], version: int) -> bool:
        """Whether this decision is what an object of that version bears; after we took it off, the same words are
        another one."""
        return identity == self.identity and (self.removed is None or version < self.removed)


class _KnownObjects:
    """The latest state of each resource, to tell a change from the echo of our own write."""

    def __init__(self, namespace: str = "") -> None:
        self.latest: dict[Key, Object] = {}
        self._unlisted = {*PLURALS} if namespace else {*PLURALS, NAMESPACES}
        self._seen: set[str] = set()
        self._labels: dict[str, Mapping[str, str]] = {}
        self._decisions: dict[Key, _SeenDecision] = {}

    def all_listed(self, kind: str, seen: bool) -> bool:
        """Note that all resources of a kind have been listed, or cannot be; True once, when that is so of every
        kind."""
        if seen:
            self._seen.add(kind)
        was = bool(self._unlisted)
        self._unlisted.discard(kind)
        return was and not self._unlisted

    def is_seen(self, kind: str) -> bool:
        """Whether all resources of a kind have been seen."""
        return kind in self._seen

    def are_new(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Remember a namespace's labels; whether they are other ones than before."""
        before, self._labels[namespace] = self._labels.get(namespace), labels
        return before != labels

    def forget(self, key: Key) -> bool:
        """Forget a resource; whether it was known."""
        self._decisions.pop(key, None)
        return self.latest.pop(key, None) is not None

    def is_new(self, key: Key, raw: Object) -> bool:
        """Remember the object; whether its spec, its annotations, its labels or its deletion is new. Our own writes
        change none."""
        before, meta = self.latest.get(key), raw["metadata"]
        self.latest[key] = resources.essence(raw)
        return (
            before is None
            or before["metadata"]["uid"] != meta["uid"]
            or before["metadata"]["generation"] != meta["generation"]
            or resources.wishes(before) != resources.wishes(raw)
            or before["metadata"]["labels"] != resources.labels(raw)
            or resources.is_leaving(before) != resources.is_leaving(raw)
        )

    def is_new_decision(self, key: Key, raw: Object) -> bool:
        """Remember the decision; whether it is another one than before. When it was written is not told: the time in
        `managedFields` is that of all that its writer wrote."""
        identity, version = resources.decision_id(raw), resources.version(raw)
        before = self._decisions.get(key)
        if identity is None:
            self._decisions.pop(key, None)
            return False
        if before is not None and before.is_still(identity, version):
            return False
        self._decisions[key] = _SeenDecision(identity, version)
        return True

    def decision_removed(self, key: Key, without: Object) -> None:
        """Note that we took the decision off; `without` is the object as it was then."""
        seen, version = self._decisions.get(key), resources.version(without)
        if seen is not None and seen.since < version:
            seen.removed = version
