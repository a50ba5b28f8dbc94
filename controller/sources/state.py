"""What the directory source remembers of each resource, one YAML file each: uid, generation, status.

    <state-dir>/<namespace>/<kind>/<name>.yaml

A file is replaced as a whole, so a reader sees one state or the next. It outlives its manifest: a
manifest that comes back (an editor's rename, a file moved) is the same resource.
"""

import fcntl
import hashlib
import json
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import structlog
import yaml
from pydantic import Field, ValidationError

from common.files import replace
from common.text import Dumper, is_visible, represent_text
from common.yaml_reader import Fault, load_file
from common.yaml_scalars import TAG
from controller.fields import Model
from controller.models import API_VERSION, Resource, Status
from controller.source import Key, SourceError, key_of
from controller.sources.manifests import with_status
from controller.status_models import Binding

log = structlog.get_logger()


class Identity(Model):
    """A resource's metadata, the digest of the spec that its generation belongs to, and the file that it was read from,
    as it is called below the directory of manifests; empty: an earlier version wrote this."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec_digest: str
    file: str = ""


class Remembered(Model):
    """One file."""

    api_version: str = API_VERSION
    kind: str
    metadata: Identity
    status: dict[str, Any] = Field(default_factory=dict)


class StateDirectory:
    """The files. One controller at a time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[Key, Remembered] = {}
        self._lock: IO[str] | None = None
        self._one_at_a_time = threading.Lock()

    def lock(self) -> None:
        """Make sure that no other controller writes here, until this process ends or `unlock`.

        Raises:
            SourceError: another one does, or the directory cannot be written.
        """
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self._root / ".lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.unlock()
            if isinstance(error, BlockingIOError):
                raise SourceError(
                    f"Another controller works with {self._root}; stop it or name another --state-dir."
                ) from error
            raise SourceError(f"--state-dir {self._root}: {error.strerror}; choose one that can be written.") from error

    def unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def identify(self, resource: Resource, spec: Mapping[str, Any], file: str = "") -> Resource:
        """The resource with its uid, generation and status. What is new of its identity is on disk when this returns.

        Raises:
            SourceError: it could not be written.
        """
        with self._one_at_a_time:
            return _with_identity(resource, self._identify(key_of(resource), digest(spec), file))

    def origin(self, key: Key) -> tuple[str, str] | None:
        """The file that a resource was last read from, and the digest of its spec."""
        with self._one_at_a_time:
            known = self._known.get(key) or self._load(key)
            return (known.metadata.file, known.metadata.spec_digest) if known else None

    def binding(self, key: Key) -> Binding | None:
        """What a resource is bound to, as last written."""
        with self._one_at_a_time:
            known = self._known.get(key) or self._load(key)
            written = known.status.get("vm") if known else None
            with suppress(ValidationError):  # another version wrote it: it begins anew, as the rest of the status does
                return Binding.model_validate(written) if written else None
            return None

    def _identify(self, key: Key, digest: str, file: str) -> Remembered:
        known = self._known.get(key) or self._load(key)
        if known is None:
            uid = str(uuid.uuid4())
            identity = Identity(
                name=key.name, namespace=key.namespace, uid=uid, generation=1, spec_digest=digest, file=file
            )
            return self._save(key, Remembered(kind=key.kind, metadata=identity))
        edited = known.metadata.spec_digest != digest
        if not edited and known.metadata.file == file:
            return known
        change = {"generation": known.metadata.generation + edited, "spec_digest": digest, "file": file}
        return self._save(key, known.model_copy(update={"metadata": known.metadata.model_copy(update=change)}))

    def write_status(self, key: Key, status: Status) -> bool:
        """Keep a status; False if there is no such resource.

        Raises:
            SourceError: it could not be written.
        """
        with self._one_at_a_time:
            known = self._known.get(key)
            if known is None:
                return False
            written = status.model_dump(mode="json", by_alias=True, exclude_none=True)
            self._save(key, known.model_copy(update={"status": written}))
            return True

    def _path(self, key: Key) -> Path:
        return self._root / key.namespace / key.kind / f"{key.name}.yaml"

    def _load(self, key: Key) -> Remembered | None:
        path = self._path(key)
        if not path.exists():
            return None
        try:
            known = Remembered.model_validate(load_file(path))
        except (Fault, ValueError) as error:
            log.warning("state is not readable; it begins anew", file=str(path), error=str(error))
            return None
        self._known[key] = known
        return known

    def _save(self, key: Key, remembered: Remembered) -> Remembered:
        document = remembered.model_dump(mode="json", by_alias=True)
        text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
        try:
            path = self._path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, text, on_disk=False)
        except OSError as error:
            raise SourceError(f"{error}; free or mend --state-dir, it is tried again.") from error
        self._known[key] = remembered
        return remembered


class _Dumper(Dumper):
    """Quotes what older readers take for booleans (`Off`), and writes output of several lines as such."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    lines = "\n" in value and is_visible(value.replace("\n", ""))
    return dumper.represent_scalar(f"{TAG}str", value, style="|") if lines else represent_text(dumper, value)


_Dumper.add_representer(str, _text)


def digest(spec: Mapping[str, Any]) -> str:
    """Of two specs that mean the same the same."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, default=str).encode()).hexdigest()


def _with_identity(resource: Resource, known: Remembered) -> Resource:
    identity = {"uid": known.metadata.uid, "generation": known.metadata.generation}
    identified = resource.model_copy(update={"metadata": resource.metadata.model_copy(update=identity)})
    return with_status(identified, known.status)
