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

from common.text import own_words
from common.yaml_reader import Document, Fault, FieldPath, documents, field_path, read_text
from controller.models import API_VERSION, GROUP, KINDS, Provider, Resource

log = structlog.get_logger()
BOUND = ("providerRef", "vmName")
"""Fields of a spec that lead to the VM."""
RUNTIME = ("spec", "runtime")
OPEN: tuple[FieldPath, ...] = (("spec",), RUNTIME)
"""Where fields of other controllers stand."""
SAID_BETTER = {"missing": "is missing", "too_short": "must not be empty", "string_too_short": "must not be empty"}
"""Plainer words for some of the validator's findings, by their type."""


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
    """What one file holds. `warnings` are fields that have no meaning here: most often typing mistakes."""

    manifests: tuple[Manifest, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


class _NoResource(Exception):
    """YAML for another purpose."""


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
    try:
        text = read_text(file, only_regular=True)
    except Fault as fault:
        return Reading(problems=(Problem(file, max(fault.line, 1), "", f"cannot be read: {fault.message}"),))
    try:
        for document in documents(text):
            try:
                manifest = _manifest(document, file)
            except _NoResource:
                warnings.append(Problem(file, document.line, "", "neither apiVersion nor kind: no manifest"))
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
    return Reading(tuple(manifests), tuple(problems), tuple(warnings))


def _of_fault(file: Path, fault: Fault) -> Problem:
    return Problem(file, fault.line, field_path(fault.path), fault.message)


def _manifest(written: Document, file: Path) -> Manifest | None:
    """The resource in a document, or None for an empty document or another controller's resource."""
    document = written.value()
    if document is None:
        return None
    if not isinstance(document, dict):
        raise Mistake((), "a manifest is a mapping with apiVersion, kind, metadata and spec")
    kind = _kind_of(document)
    if kind is None:
        return None
    declared = {name: part for name, part in document.items() if name != "status"}
    lines = {name: _locate(written.node, ("spec", name)).start_mark.line + 1 for name in BOUND}
    return Manifest(kind.model_validate(declared), document["spec"], file, written.line, lines)


def _kind_of(document: Mapping[str, Any]) -> Any:
    version, kind = document.get("apiVersion"), document.get("kind")
    if version is None and kind is None:
        raise _NoResource
    for name, value in (("apiVersion", version), ("kind", kind)):
        if not isinstance(value, str):
            raise Mistake((name,), "is missing, or no text")
    if str(version).partition("/")[0] != GROUP:
        return None
    if version != API_VERSION:
        raise Mistake(("apiVersion",), f"{version!r} is not known; write {API_VERSION}")
    return KINDS.get(str(kind))


def mistakes(error: ValidationError) -> Iterator[Mistake]:
    for detail in error.errors(include_url=False, include_input=False):
        message = own_words(SAID_BETTER.get(detail["type"], detail["msg"]))
        yield Mistake(detail["loc"], message)


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
    """Fields below a part of the spec that we do know: those of the spec itself, and of how a provider is run, may be
    another controller's."""
    for path in unknown_fields(resource.spec, ("spec",)):
        if path[:-1] not in OPEN and not (path[:2] == RUNTIME and is_foreign(resource)):
            yield Mistake(path, "has no meaning here; it is kept, and ignored")


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
