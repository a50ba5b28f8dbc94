"""From objects of the API to the resources that the core knows. Pure.

Of an object's metadata and spec only what means something here is kept: the rest (a VM's disks, who manages
which field) belongs to others, and two thousand of it would fill our memory.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from controller.annotations import BRING_DOWN, DECISION, ON_DELETE, ours
from controller.models import KINDS, Resource, Status
from controller.source import Decided, Key
from controller.sources.kubernetes.api import Object
from controller.sources.manifests import said, with_status

FINALIZER = "vmpower/on-delete"
"""Holds a deleted VirtualMachine until its VM is down."""
IN_USE = "vmpower/in-use"
"""Holds a deleted Provider until no VirtualMachine is bound to its VMs."""
IDENTITY = ("name", "namespace", "uid", "generation")
ESSENCE = ("uid", "generation", "resourceVersion", "finalizers", "deletionTimestamp")
LABELLED = "VirtualMachine"
"""The kind whose labels mean something: plans select by them."""


class Invalid(Exception):
    """The object is not as our models want it; the message names the fields."""


def resource_of(kind: str, raw: Object) -> Resource:
    """The resource that an object declares.

    Raises:
        Invalid: it cannot be acted upon.
    """
    model = KINDS[kind]
    declared = {
        "apiVersion": raw["apiVersion"],
        "kind": kind,
        "metadata": {name: raw["metadata"][name] for name in IDENTITY}
        | {"leaving": is_leaving(raw), "labels": labels(raw), "annotations": wishes(raw), "manager": _manager(raw)},
        "spec": _known_part(model.model_fields["spec"].annotation, raw.get("spec", {})),
    }
    try:
        resource = model.model_validate(declared)
    except ValidationError as error:
        raise Invalid(said(error)) from error
    return with_status(resource, raw.get("status", {}))


def written_status(kind: str, raw: Object) -> Status:
    """The status of an object whose spec is invalid, as last written; a new one where it is not readable."""
    empty: Status = KINDS[kind].model_fields["status"].default
    try:
        return type(empty).model_validate(raw.get("status", {}))
    except ValidationError:
        return empty


def _known_part(spec: Any, written: Any) -> Any:
    if not isinstance(written, Mapping):  # as a CRD that is not ours may allow
        return written
    model: type[BaseModel] = spec
    if model.model_config.get("extra") == "forbid":  # what is not known may be meant to say much
        return written
    known = {field.alias for field in model.model_fields.values()}
    return {name: value for name, value in written.items() if name in known}


def essence(raw: Object) -> Object:
    """The parts of an object by which a change of it is told."""
    meta = raw["metadata"]
    kept = ours(meta.get("annotations", {}))
    known = {name: meta[name] for name in ESSENCE if name in meta} | {"annotations": kept, "labels": labels(raw)}
    return {"metadata": known}


def labels(raw: Object) -> Mapping[str, str]:
    """Those of an object of which they mean something."""
    found: Mapping[str, str] = raw["metadata"].get("labels") or {}
    return found if raw.get("kind") == LABELLED else {}


def wishes(raw: Object) -> dict[str, str]:
    """What its annotations say for as long as they are there; a decision is said once."""
    found = ours(raw["metadata"].get("annotations", {}))
    return {name: value for name, value in found.items() if name != DECISION}


def is_leaving(raw: Object) -> bool:
    """Whether it is deleted and waits, by our finalizer: a VirtualMachine until its VM is down, a Provider until no
    resource uses it."""
    held = is_held(raw) and wants_hold(raw)
    return is_deleted(raw) and (held or IN_USE in raw["metadata"].get("finalizers", ()))


def is_deleted(raw: Object) -> bool:
    """Whether it is deleted; the API keeps it until its finalizers are removed."""
    return "deletionTimestamp" in raw["metadata"]


def is_held(raw: Object) -> bool:
    return FINALIZER in raw["metadata"].get("finalizers", ())


def wants_hold(raw: Object) -> bool:
    """Whether its owner wants the VM brought down before it goes."""
    return annotation(raw, ON_DELETE) == BRING_DOWN


def annotation(raw: Object, name: str) -> str | None:
    value: str | None = raw["metadata"].get("annotations", {}).get(name)
    return value


def decided(key: Key, raw: Object) -> Decided | None:
    """The decision in the annotation, with the field manager that wrote it where the API server names one."""
    text = annotation(raw, DECISION)
    return None if text is None else Decided(key, text, _decider(raw))


def decision_id(raw: Object) -> tuple[str, ...] | None:
    """Which decision about which object it bears; None where it bears none."""
    text = annotation(raw, DECISION)
    return None if text is None else (raw["metadata"]["uid"], text)


def version(raw: Object) -> int:
    """Of two versions of an object the later one is the greater number:
    https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions"""
    return int(raw["metadata"]["resourceVersion"])


def _manager(raw: Object) -> str:
    """The field manager that last wrote the spec, as far as the API server tells: it does not keep the user."""
    written = [each for each in raw["metadata"].get("managedFields", ()) if "f:spec" in each.get("fieldsV1", {})]
    latest: Object = max(written, key=lambda each: str(each.get("time", "")), default={})
    return str(latest.get("manager", ""))


def _decider(raw: Object) -> str:
    """The field manager that wrote the decision. The API server does not keep the user."""
    for entry in raw["metadata"].get("managedFields", ()):
        fields = entry.get("fieldsV1", {}).get("f:metadata", {}).get("f:annotations", {})
        if f"f:{DECISION}" in fields:
            return str(entry.get("manager", ""))
    return ""
