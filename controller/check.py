"""`--check PATH`: what the controller would make of the manifests in a directory or a file. For CI; it does nothing.

Each finding is one line, `file:line: error: field: what is wrong`. An error has no effect, or takes the effect of a
resource away; a warning is about a part of a resource that is ignored.
"""

from collections.abc import Collection, Iterable, Iterator
from enum import IntEnum
from pathlib import Path

from controller.binding import undeclared
from controller.models import Provider, VirtualMachine
from controller.sources.declared import settle
from controller.sources.files import alone, listed
from controller.sources.manifests import Manifest, Problem, Reading, read


class Verdict(IntEnum):
    """What the process exits with."""

    FINE = 0
    ERRORS = 1
    UNREADABLE = 2
    WARNINGS = 3


def check(root: Path) -> tuple[Verdict, list[str]]:
    """The verdict about a directory or a file, and the lines that say why, a summary last."""
    if not root.exists():
        return Verdict.UNREADABLE, [f"{root}: no such file or directory; name one that can be read."]
    listing = listed(root) if root.is_dir() else alone(root)
    readings = {path: read(path) for path in listing.stamps}
    resources, doubles = settle(readings, {})
    errors = [
        *listing.problems,
        *doubles,
        *_of_one_vm(resources.values()),
        *(_without_provider(resources.values()) if root.is_dir() else ()),  # another file may declare it
        *(problem for reading in readings.values() for problem in reading.problems),
    ]
    warnings = [warning for reading in readings.values() for warning in reading.warnings]
    verdict = Verdict.ERRORS if errors else Verdict.WARNINGS if warnings else Verdict.FINE
    summary = _summary(readings, len(resources), len(errors), len(warnings))
    return verdict, [*_lines(errors, "error"), *_lines(warnings, "warning"), summary]


def _of_one_vm(manifests: Iterable[Manifest]) -> Iterator[Problem]:
    """Resources that name the VM of an earlier one: only one is bound to it, the others are in conflict."""
    first: dict[tuple[str, str], Manifest] = {}
    for manifest in sorted(manifests, key=lambda each: (each.file, each.line)):
        if isinstance(resource := manifest.resource, VirtualMachine):
            owner = first.setdefault((resource.provider_name, resource.vm_name), manifest)
            if owner is not manifest:
                line = manifest.fields.get("vmName", manifest.line)
                message = f"names the VM of {owner.file}:{owner.line} too; one VM has one resource"
                yield Problem(manifest.file, line, "spec.vmName", message)


def _without_provider(manifests: Collection[Manifest]) -> Iterator[Problem]:
    """Resources that name a Provider which is not in the directory: nothing is done about their VMs."""
    metas = [manifest.resource.metadata for manifest in manifests if isinstance(manifest.resource, Provider)]
    providers = {f"{meta.namespace}/{meta.name}" for meta in metas}
    for manifest in manifests:
        resource = manifest.resource
        if isinstance(resource, VirtualMachine) and resource.provider_name not in providers:
            line = manifest.fields.get("providerRef", manifest.line)
            yield Problem(manifest.file, line, "spec.providerRef", undeclared(resource))


def _lines(problems: list[Problem], level: str) -> Iterator[str]:
    for problem in sorted(problems, key=lambda each: (each.file, each.line)):
        field = f"{problem.field}: " if problem.field else ""
        yield f"{problem.file}:{problem.line}: {level}: {field}{problem.message}"


def _summary(readings: dict[Path, Reading], resources: int, errors: int, warnings: int) -> str:
    others = sum(reading.others for reading in readings.values())
    left = f"; {others} documents of other kinds are left alone" if others else ""
    return f"{len(readings)} files, {resources} resources, {errors} errors, {warnings} warnings{left}"
