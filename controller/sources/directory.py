"""A directory of manifests: for one host without a cluster. Edits are picked up as they are made.

A mistake is logged with file, line and field. What was last read from that file without mistakes stays in
effect, and other files are not concerned. So does what was declared first, where a second file declares the same
resource. An edit that would lead a resource to another VM than the one it is bound
to is a mistake too. Removing a manifest leaves its VM as it is, and gives up its shutdown if one is under way.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from watchfiles import watch
from watchfiles._rust_notify import WatchfilesRustInternalError  # its documentation names it so

from common.own_machine import PRODUCT_UUID, system_uuid
from common.yaml_reader import Fault, read_text
from controller.annotations import REBIND
from controller.models import PowerRun, PowerRunSpec, Status, VirtualMachine
from controller.source import (
    Applied,
    Change,
    Decided,
    Deleted,
    Event,
    GuestCredentials,
    Key,
    ResourceGone,
    SecretUnavailable,
    SourceError,
    Synced,
    TlsSecret,
    UpsSecret,
    key_of,
)
from controller.sources.declared import Origin, settle
from controller.sources.files import Stamp, listed
from controller.sources.manifests import Manifest, Problem, Reading, read
from controller.sources.state import StateDirectory, digest
from controller.status_models import Binding

QUIET_MS, BURST_MS = 50, 500
"""Changes are looked at once nothing has changed for QUIET_MS, or at the latest after BURST_MS."""
LOOK_UP_MS = 1000
"""How often to check whether the directory itself was replaced."""

UPS_FIELD = "nut.secretRef"

log = structlog.get_logger()


@dataclass(slots=True)
class _Known:
    """What was last read, by file and by resource, and which mistakes have been logged."""

    stamps: dict[Path, Stamp] = field(default_factory=dict)
    readings: dict[Path, Reading] = field(default_factory=dict)
    manifests: dict[Key, Manifest] = field(default_factory=dict)
    told: set[Problem] = field(default_factory=set)


class DirectorySource:
    """Resources from a directory, all levels of it; their status goes to a state directory.

    Hidden files and directories are left alone, and so is the state directory if it lies inside.
    """

    shared = False

    def __init__(self, manifests: Path, state_dir: Path, secrets_dir: Path | None = None) -> None:
        self._root, self._state_dir, self._secrets = manifests.absolute(), state_dir.absolute(), secrets_dir
        self._state = StateDirectory(state_dir)
        self._known = _Known()
        self._unwritten = False

    async def watch(self) -> AsyncIterator[Change]:
        """What there is, then `Synced`, then each change.

        Raises:
            SourceError: there is no such directory, or another controller has this state directory.
        """
        if self._root.is_file():
            raise SourceError(f"{self._root}: this is a file; name its directory, {self._root.parent}.")
        if not self._root.is_dir():
            raise SourceError(f"{self._root}: no such directory; name a directory that can be read.")
        self._state.lock()
        stop = threading.Event()
        edits = _edits(self._root, stop)
        edited = _next(edits)  # before the first look: an edit that is made during it is heard at once
        try:
            for change in await asyncio.to_thread(self._look):
                yield change
            yield Synced()
            while True:
                if await edited or self._unwritten:
                    for change in await asyncio.to_thread(self._look):
                        yield change
                edited = _next(edits)
        except OSError as error:
            raise SourceError(f"{self._root}: {error}; name a directory that can be read.") from error
        finally:
            stop.set()
            edited.cancel()
            self._state.unlock()

    def is_gone(self, key: Key) -> bool:
        """Not while the file that declared it cannot be read, as it may be in there, nor while an edit is refused."""
        origin, readings = self._state.origin(key), self._known.readings
        written = (key_of(manifest.resource) for reading in readings.values() for manifest in reading.manifests)
        if origin is None or key in written:
            return False
        reading = readings.get(self._root / origin[0])
        return reading is None or not reading.problems

    async def write_status(self, key: Key, status: Status) -> None:
        if not await asyncio.to_thread(self._state.write_status, key, status):
            raise ResourceGone(str(key))

    async def emit_event(self, key: Key, event: Event) -> None:
        """Log it: here people read logs."""
        level = log.warning if event.type == "Warning" else log.info
        level(event.message, resource=str(key), reason=event.reason)

    async def acknowledge(self, decided: Decided) -> None:
        """There are no decisions in manifests; people decide by `vmpower`."""

    async def remove_finalizer(self, key: Key) -> None:
        """Manifests have no finalizers."""

    async def hold_provider(self, key: Key, held: bool) -> None:
        """Manifests have no finalizers; what is bound keeps its binding while its Provider is not declared."""

    async def guest_credentials(self, namespace: str, name: str) -> GuestCredentials:
        found = self._secret("guestCredentialsSecretRef", namespace, name, ("username", "password"))
        username, password = (part.rstrip("\r\n") for part in found)
        return GuestCredentials(username, password)

    async def ups_secret(self, namespace: str, name: str) -> UpsSecret:
        found = self._secret(UPS_FIELD, namespace, name, ("username", "password"))
        username, password = (part.rstrip("\r\n") for part in found)
        has_ca = self._secrets is not None and (self._secrets / namespace / name / "ca.crt").exists()
        return UpsSecret(username, password, *self._secret(UPS_FIELD, namespace, name, ("ca.crt",) if has_ca else ()))

    async def make_run(self, name: str, namespace: str, spec: PowerRunSpec) -> PowerRun:
        """Manifests are their owners' alone; a run that is begun here has its record on this disk."""
        raise SourceError("A controller on a directory declares no resources.")

    async def delete_run(self, key: Key) -> None:
        """It has declared none."""

    async def own_machines(self) -> list[str]:
        """This host."""
        if uuid := system_uuid():
            return [uuid]
        raise SourceError(
            f"{PRODUCT_UUID} cannot be read; the controller's operator runs it as root, where the firmware has a UUID."
        )

    async def tls_secret(self, namespace: str, name: str) -> TlsSecret:
        found = self._secret("tls.secretRef", namespace, name, ("ca.crt", "tls.crt", "tls.key"))
        return TlsSecret(*(part.encode() for part in found))

    def _secret(self, field: str, namespace: str, name: str, parts: Sequence[str]) -> list[str]:
        """What these files of a secret hold, which a resource names in `field`."""
        if self._secrets is None:
            raise SecretUnavailable(f"{field} needs --secrets-dir; the controller's operator names it.")
        folder = self._secrets / namespace / name
        try:
            return [read_text(folder / part, only_regular=True) for part in parts]
        except Fault as fault:
            raise SecretUnavailable(f"{folder}: {fault}; whoever owns the secret mends it.") from None

    async def close(self) -> None:
        """Nothing to give back: `watch` releases the state directory when it ends."""

    def _look(self) -> list[Change]:
        """Read the files that have changed; the changes of resources that follow."""
        known, listing = self._known, listed(self._root, self._state_dir)
        readings = {
            path: known.readings[path] if known.stamps.get(path) == stamp else _read(path)
            for path, stamp in listing.stamps.items()
        }
        readings |= {problem.file: Reading(problems=(problem,)) for problem in listing.problems}
        manifests, doubles = settle(readings, known.manifests, self._origin, lambda manifest: digest(manifest.raw))
        manifests, refused = self._refuse(known.manifests, manifests)
        told = _tell(readings.values(), doubles + refused, known.told)
        changes, applied = self._changes(known.manifests, manifests)
        self._known = _Known(listing.stamps, readings, applied, told)
        return changes

    def _origin(self, key: Key) -> Origin | None:
        """Where what is in effect of a resource was read, in this process or an earlier one."""
        if key in self._known.manifests:
            known = self._known.manifests[key]
            return Origin(known.file, lambda: digest(known.raw))
        remembered = self._state.origin(key)
        return Origin(self._root / remembered[0], lambda: remembered[1]) if remembered else None

    def _called(self, manifest: Manifest) -> str:
        """Its file, as it is remembered: the directory itself may be moved."""
        return str(manifest.file.relative_to(self._root))

    def _refuse(
        self, before: dict[Key, Manifest], now: dict[Key, Manifest]
    ) -> tuple[dict[Key, Manifest], list[Problem]]:
        """The manifests without edits that would lead a resource away from its VM, for which what was declared before
        stays in effect; and these edits as mistakes."""
        good, refused = dict[Key, Manifest](), list[Problem]()
        for key, manifest in now.items():
            changed = key not in before or before[key].resource != manifest.resource
            mistakes = list(self._mistakes_of_an_edit(key, manifest)) if changed else []
            refused += mistakes
            if not mistakes:
                good[key] = manifest
            elif key in before:
                good[key] = before[key]
        return good, refused

    def _mistakes_of_an_edit(self, key: Key, manifest: Manifest) -> Iterator[Problem]:
        yield from _leading_away(manifest, self._state.binding(key))
        remembered = self._state.origin(key)
        if isinstance(manifest.resource, PowerRun) and remembered and remembered[1] != digest(manifest.raw):
            message = "cannot change: a run is carried out once; declare another one under another metadata.name"
            yield Problem(manifest.file, manifest.line, "spec", message)

    def _changes(
        self, before: dict[Key, Manifest], now: dict[Key, Manifest]
    ) -> tuple[list[Change], dict[Key, Manifest]]:
        """The changes, and the manifests that are in effect after them."""
        changes: list[Change] = [Deleted(key) for key in before.keys() - now.keys()]
        applied = dict(now)
        self._unwritten = False
        for key, manifest in now.items():
            same = key in before and before[key].resource == manifest.resource
            if same and before[key].file == manifest.file:
                continue
            try:
                identified = self._state.identify(manifest.resource, manifest.raw, self._called(manifest))
                changes += [] if same else [Applied(identified)]
            except SourceError as error:
                log.warning("not applied yet", resource=str(key), error=str(error))
                applied.pop(key)
                self._unwritten = True
        return changes, applied


def _read(path: Path) -> Reading:
    """What a file holds. No file ends the process: where `read` itself fails, that is a problem of the file too."""
    try:
        return read(path)
    except Exception:
        log.exception("a bug in vmpower", file=str(path))
        return Reading(problems=(Problem(path, 1, "", "cannot be read, by a bug in vmpower; its log says how"),))


def _next(edits: Iterator[bool]) -> asyncio.Future[bool]:
    return asyncio.ensure_future(asyncio.to_thread(next, edits, False))


def _edits(root: Path, stop: threading.Event) -> Iterator[bool]:
    """Each time something below `root` may have changed True, and False when nothing has for LOOK_UP_MS.

    A watch does not tell what happened before it began, so its first report always counts as a change.

    Raises:
        OSError: the directory is there and cannot be watched. One that has gone away is waited for.
    """
    began = False
    while not stop.is_set():
        inode, first = _inode(root), True
        try:
            for seen in watch(
                root,
                watch_filter=None,
                debounce=BURST_MS,
                step=QUIET_MS,
                rust_timeout=LOOK_UP_MS,
                yield_on_timeout=True,
                stop_event=stop,
            ):
                replaced = _inode(root) != inode
                yield bool(seen) or first or replaced
                if replaced:
                    break
                began, first = True, False
        except WatchfilesRustInternalError:  # a name that is not UTF-8: that something changed is all we need of it
            yield True
        except OSError:
            if not began and root.is_dir():
                raise
            stop.wait(LOOK_UP_MS / 1000)
            yield True


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _leading_away(manifest: Manifest, binding: Binding | None) -> Iterator[Problem]:
    """The fields that name another VM than the one the resource is bound to, unless it is rebound in the same edit."""
    resource = manifest.resource
    if binding is None or not isinstance(resource, VirtualMachine) or resource.metadata.rebind not in {"", binding.id}:
        return
    leads = {"providerRef": (resource.provider_name, binding.provider_ref), "vmName": (resource.vm_name, binding.name)}
    for field_name, (now, before) in leads.items():
        if now != before:
            message = (
                f"cannot change from {before} to {now}: this resource is bound to VM {binding.id}; declare the other "
                f"VM under another metadata.name, or annotate this one {REBIND} with the other VM's id"
            )
            yield Problem(manifest.file, manifest.fields[field_name], f"spec.{field_name}", message)


def _tell(readings: Iterable[Reading], doubles: list[Problem], told: set[Problem]) -> set[Problem]:
    problems = {problem for reading in readings for problem in reading.problems} | set(doubles)
    warnings = {warning for reading in readings for warning in reading.warnings}
    for message, level, found in (("bad manifest", log.error, problems), ("unknown field", log.warning, warnings)):
        for problem in sorted(found - told, key=lambda each: (each.file, each.line)):
            level(message, file=str(problem.file), line=problem.line, field=problem.field, error=problem.message)
    return problems | warnings
