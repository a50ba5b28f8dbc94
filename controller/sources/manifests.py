"""Manifests: multi-document YAML into resources, each mistake with its file, line and field.

YAML is read by common/yaml_reader.py, within its bounds: whatever a file holds, it is told as a problem of that file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import yaml
from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from common.mistakes import sentence
from common.yaml_reader import Document, Fault, FieldPath, documents, field_path, read_text
from controller.annotations import DECISION, PREFIX
from controller.annotations import mistakes as annotation_mistakes
from controller.models import (
    API_VERSION,
    GROUPS,
    KINDS,
    Lifecycle,
    Provider,
    Resource,
    Runtime,
    VirtualMachine,
)

log = structlog.get_logger()
BOUND = ("providerRef", "vmName")
"""Fields of a spec that lead to the VM."""
LIST = "List"
_, _, VERSION = API_VERSION.partition("/")
RUNTIME = ("spec", "runtime")
IGNORED = "has no meaning here; it is kept, and ignored"
OPEN: tuple[FieldPath, ...] = (("spec",), RUNTIME)
"""Where fields of other controllers stand."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake. `line` counts from 1; `field` is empty where no field is to blame."""

    file: Path
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        return f"{self.file}:{self.line}: {field}{self.message}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One resource and where it is declared. `raw` is its spec as written, with all that is unknown to us; `fields` are
    the lines of those that may not change once it is bound to a VM."""

    resource: Resource
    raw: Mapping[str, Any]
    file: Path
    line: int
    fields: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one file holds. `warnings` are fields that have no meaning here: most often typing mistakes. `others` is how
    many of its documents are other kinds of resources, of other controllers."""

    manifests: tuple[Manifest, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    others: int = 0


class _NoResource(Exception):
    """YAML for another purpose."""


class _OtherKind(Exception):
    """A resource of another controller."""


class Mistake(Exception):
    """What is wrong with one field."""

    def __init__(self, path: FieldPath, message: str) -> None:
        super().__init__(message)
        self.path, self.message = path, message


def read(file: Path) -> Reading:
    """Read one file. Its good documents count, whatever is wrong with the others."""
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    warnings: list[Problem] = []
    others = 0
    try:
        text = read_text(file, only_regular=True)
    except Fault as fault:
        return Reading(problems=(Problem(file, max(fault.line, 1), "", f"cannot be read: {fault.message}"),))
    try:
        for document in (part for whole in documents(text) for part in _resources(whole)):
            try:
                manifest = _manifest(document, file)
            except _NoResource:
                warnings.append(Problem(file, document.line, "", "neither apiVersion nor kind: no manifest"))
            except _OtherKind:
                others += 1
            except Fault as fault:
                problems.append(_of_fault(file, fault))
            except Mistake as mistake:
                problems.append(_problem(file, document.node, mistake))
            except ValidationError as error:
                problems.extend(_problem(file, document.node, mistake) for mistake in mistakes(error))
            else:
                if manifest is not None:
                    manifests.append(manifest)
                    warnings.extend(_problem(file, document.node, slip) for slip in _slips(manifest.resource))
    except Fault as fault:
        problems.append(_of_fault(file, fault))
    return Reading(tuple(manifests), tuple(problems), tuple(warnings), others)


def _resources(written: Document) -> Iterator[Document]:
    """The document itself, or the items of a list, as `kubectl get --output yaml` writes it."""
    version, kind = (getattr(_inner(written.node, name), "value", "") for name in ("apiVersion", "kind"))
    lists = (version == "v1" and kind == LIST) or (_group(version) in GROUPS and str(kind).endswith(LIST))
    pairs = written.node.value if lists and isinstance(written.node, yaml.MappingNode) else []
    items = [value for key, value in pairs if key.value == "items"]
    if not items or not all(isinstance(value, yaml.SequenceNode) for value in items):
        yield written
        return
    for node in (node for value in items for node in value.value):
        yield from _resources(Document(node))


def _group(version: Any) -> str:
    return str(version).partition("/")[0]


def _of_fault(file: Path, fault: Fault) -> Problem:
    return Problem(file, fault.line, field_path(fault.path), fault.message)


def _manifest(written: Document, file: Path) -> Manifest | None:
    """The resource in a document, or None for an empty document.

    Raises:
        _OtherKind, _NoResource: it is not for this controller, or for none.
    """
    document = written.value()
    if document is None:
        return None
    if not isinstance(document, dict):
        raise Mistake((), "a manifest is a mapping with apiVersion, kind, metadata and spec")
    kind = _kind_of(document)
    declared = {name: part for name, part in document.items() if name != "status"}
    lines = {name: _locate(written.node, ("spec", name)).start_mark.line + 1 for name in BOUND}
    return Manifest(kind.model_validate(declared), document["spec"], file, written.line, lines)


def _kind_of(document: Mapping[str, Any]) -> Any:
    version: Any = document.get("apiVersion")
    kind: Any = document.get("kind")
    if version is None and kind is None:
        raise _NoResource
    for name, value in (("apiVersion", version), ("kind", kind)):
        if not isinstance(value, str):
            raise Mistake((name,), "is missing, or no text")
    known = next((known for known in KINDS if str(kind).lower() in {known.lower(), f"{known}s".lower()}), "")
    if _group(version) not in GROUPS:
        if known == kind and (_group(version).lower() in GROUPS or "/" not in version):
            raise Mistake(("apiVersion",), f"{version!r} has no {kind}; write {API_VERSION}")
        if kind != LIST and kind.lower() == LIST.lower():
            raise Mistake(("kind",), f"{kind!r} is not known; write {LIST}")
        raise _OtherKind
    if version.partition("/")[2] != VERSION:
        raise Mistake(("apiVersion",), f"{version!r} is not known; write {API_VERSION}")
    if kind not in KINDS and known:
        raise Mistake(("kind",), f"{kind!r} is not known; write {known}")
    if kind not in KINDS:
        raise _OtherKind
    return KINDS[kind]


def mistakes(error: ValidationError) -> Iterator[Mistake]:
    for detail in error.errors(include_url=False, include_input=False):
        yield Mistake(detail["loc"], sentence(detail))


def said(error: ValidationError) -> str:
    """Which fields are wrong and why; not what they hold."""
    return "; ".join(f"{field_path(mistake.path)}: {mistake.message}" for mistake in mistakes(error))


def with_status(resource: Resource, written: Any) -> Resource:
    """The resource with its status as last written, or without where another version wrote what this cannot read."""
    try:
        status = type(resource.status).model_validate(written)
    except ValidationError as error:
        log.warning("status is not readable; it begins anew", resource=resource.metadata.name, error=said(error))
        return resource
    return resource.model_copy(update={"status": status})


def _slips(resource: Resource) -> Iterator[Mistake]:
    """What is written and has no effect: fields in the wrong place, fields below a part of the spec that we do know
    (those of the spec itself, and of how a provider is run, may be another controller's), and annotations."""
    for path in unknown_fields(resource.spec, ("spec",)):
        place = _place_of(resource, str(path[-1])) if path[:-1] in OPEN else ""
        if place and place != ".".join(map(str, path[:-1])):
            yield Mistake(path, f"has no effect here; it belongs into {place}")
        elif path[:-1] not in OPEN and not (path[:2] == RUNTIME and is_foreign(resource)):
            yield Mistake(path, IGNORED)
    for name in resource.model_extra or {}:
        place = _place_of(resource, name)
        yield Mistake((name,), f"has no effect here; it belongs into {place}" if place else IGNORED)
    for name in resource.metadata.model_extra or {}:
        if name.startswith(PREFIX):
            yield Mistake(("metadata", name), "has no effect here; it belongs into metadata.annotations")
    if DECISION in resource.metadata.annotations:
        yield Mistake(("metadata", "annotations", DECISION), "has no effect in a directory; decide by vmpower")
    for wrong in annotation_mistakes(resource.metadata.annotations):
        yield Mistake(("metadata", "annotations"), wrong)


def _place_of(resource: Resource, name: str) -> str:
    """Where a field of this name belongs; empty: it is not known, or another controller's."""
    if not isinstance(resource, VirtualMachine | Provider):
        return ""
    inner: type[BaseModel] = Runtime if isinstance(resource, Provider) else Lifecycle
    places = {"spec": type(resource.spec), ".".join(RUNTIME) if inner is Runtime else "spec.lifecycle": inner}
    return next((place for place, model in places.items() if name in _fields_of(model)), "")


def _fields_of(model: type[BaseModel]) -> set[str]:
    return {str(field.alias) for field in model.model_fields.values()}


def is_foreign(resource: Resource) -> bool:
    """Whether it is a Provider as another controller runs them."""
    return isinstance(resource, Provider) and resource.spec.runtime.endpoint is None


def unknown_fields(model: BaseModel, path: FieldPath = ()) -> Iterator[FieldPath]:
    """The paths of all fields in and below `model` that are not part of it."""
    yield from ((*path, name) for name in model.model_extra or {})
    for name in type(model).model_fields:
        for place, part in _models_in(getattr(model, name)):
            yield from unknown_fields(part, (*path, to_camel(name), *place))


def _models_in(value: Any) -> Iterator[tuple[tuple[int, ...], BaseModel]]:
    if isinstance(value, BaseModel):
        yield (), value
    elif isinstance(value, tuple):
        yield from (((place,), part) for place, part in enumerate(value) if isinstance(part, BaseModel))


def _problem(file: Path, node: yaml.Node, mistake: Mistake) -> Problem:
    path = tuple(_as_written(node, mistake.path))
    found = _locate(node, path)
    return Problem(file, found.start_mark.line + 1, field_path(path), mistake.message)


def _as_written(node: yaml.Node | None, path: FieldPath) -> Iterator[str | int]:
    """Our models know hooks as a list; they are written as one, or below `hooks`."""
    for step in path:
        if isinstance(step, int) and isinstance(node, yaml.MappingNode):
            node = _inner(node, "hooks")
            if node is None:
                continue
            yield "hooks"
        yield step
        node = _inner(node, step)


def _inner(node: yaml.Node | None, step: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step]  # type: ignore[no-any-return]
    if isinstance(node, yaml.MappingNode):
        return next((item for key, item in node.value if key.value == step), None)
    return None


def _locate(node: yaml.Node, path: FieldPath) -> yaml.Node:
    """The key or item at `path`, or the last one on the way there that exists."""
    found, value = node, node
    for step in path:
        inner = _inner(value, step)
        if inner is None:
            break
        keys = value.value if isinstance(value, yaml.MappingNode) else ()
        found, value = next((key for key, _ in keys if key.value == step), inner), inner
    return found
