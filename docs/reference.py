"""Writes reference.md from the code: `python -m docs.reference FILE`, or `make docs`."""

import ast
import asyncio
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import Metric
from pydantic.fields import FieldInfo

from cli.errors import ExitCode
from common.durations import to_text
from common.settings import ProcessSettings
from controller.config import Settings as ControllerSettings
from controller.metrics import Metrics as ControllerMetrics
from providers.core.adapter import VM, PowerState
from providers.core.errors import VmpowerError
from providers.core.lanes import Lanes, bounds
from providers.core.model import Kind, State
from providers.core.settings import Settings
from providers.libvirt.config import LibvirtSettings
from providers.proxmox.config import ProxmoxSettings
from providers.server.interceptor import MOST, MOST_OF_ONE, RETRY_DELAY, TooManyCalls
from providers.server.metrics import registry
from providers.server.service import PAGE_BYTES
from providers.sim.config import SimSettings
from providers.vsphere.config import VsphereSettings

PROVIDERS: dict[str, type[ProcessSettings]] = {
    "libvirt": LibvirtSettings,
    "vsphere": VsphereSettings,
    "proxmox": ProxmoxSettings,
    "sim": SimSettings,
}
COMPUTED = {
    "lease_namespace": "the pod's own, else `default`",
    "identity": "the host's name; outside a pod with a random end",
}
"""Defaults that depend on the machine, in words."""
INTRODUCTION = """# Reference

Generated from the code by `make docs`; a change here is lost.

Settings of a process are flags (`--state-dir`), variables (`VMPOWER_STATE_DIR`) or files named `VMPOWER_STATE_DIR` in
the directory that `VMPOWER_CREDENTIALS_DIR` names; the first one found counts. Durations are written as in Go: `90s`,
`1m30s`.
"""


LIMITS = f"""## Limits

Of each kind so many calls may be under way. The next one ends with `{TooManyCalls.reason}`, and the `RetryInfo` in its
status says when to send it again: after {to_text(RETRY_DELAY)}. A rush of reads refuses no work. A page of operations
ends at its `page_size` or at {PAGE_BYTES >> 20} MiB; `next_page_token` tells whether there is more.
"""


def main() -> None:
    """Write the page to the file that the command line names."""
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page."""
    parts = [
        INTRODUCTION,
        "## Errors\n\n`reason` is that of the `ErrorInfo` in a status's details. Nothing was done to the VM then.",
        table(("reason", "gRPC code", "meaning", "who acts next"), errors(VmpowerError)),
        LIMITS,
        table(
            ("calls", "at once, of all clients of a provider", "of one client"),
            ((kind, f"{most:,}", f"{MOST_OF_ONE[kind]:,}") for kind, most in MOST.items()),
        ),
        "## Metrics of every provider\n\nServed at `--metrics-listen`, in Prometheus' text format.",
        table(("metric", "type", "labels", "meaning"), map(metric, metrics())),
        "## Metrics of `controller`\n\nServed at its `--metrics-listen`.",
        table(("metric", "type", "labels", "meaning"), map(metric, ControllerMetrics().registry.collect())),
        "## Exit codes of `vmpower`",
        table(("code", "name", "meaning"), exit_codes()),
        "## Settings of every provider",
        settings(Settings),
        *(f"## Settings of `providers.{name}`\n\n{settings(kind, Settings)}" for name, kind in PROVIDERS.items()),
        "## Settings of `controller`",
        settings(ControllerSettings),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, whose cells are plain text but for backticks."""
    lines = [head, ["---"] * len(head), *([_escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def errors(kind: type[VmpowerError]) -> Iterator[Sequence[str]]:
    """The class and all below it that have a reason of their own."""
    if "reason" in vars(kind):
        yield f"`{kind.reason}`", kind.code.name, _sentence(kind), kind.who_acts
    for child in kind.__subclasses__():
        yield from errors(child)


def metrics() -> Iterable[Metric]:
    """All metrics, each with a sample for its labels: as if there were a VM, and an operation had ended."""
    operations = SimpleNamespace(active=list, on_end=[])
    deaf = VM("", "", PowerState.ON)
    inventory = SimpleNamespace(connected=asyncio.Event(), vms={"": deaf})
    journal = SimpleNamespace(failure="", on_write=[])
    adapter = SimpleNamespace(type="", lanes=Lanes(bounds()))
    collected = registry(cast(Any, adapter), cast(Any, inventory), cast(Any, operations), cast(Any, journal))
    now = datetime.now(UTC)
    verdict = SimpleNamespace(outcome="", reason=None, signal=None, start_time=now, end_time=now, hooks=())
    for told in operations.on_end:
        told(SimpleNamespace(request=SimpleNamespace(kind=Kind.SHUTDOWN), state=State.SUCCEEDED, verdict=verdict))
    return collected.collect()


def metric(family: Metric) -> Sequence[str]:
    """A metric's row."""
    labels = {label: None for sample in family.samples for label in sample.labels if label != "le"}
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return f"`{name}`", family.type, ", ".join(f"`{label}`" for label in labels), family.documentation


def exit_codes() -> Iterator[Sequence[str]]:
    """Each code with the docstring below its line, which Python itself does not keep."""
    for member, below in pairwise(ast.walk(ast.parse(inspect.getsource(ExitCode)))):
        match member, below:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(meaning))):
                yield str(ExitCode[name].value), name, meaning


def settings(kind: type[ProcessSettings], base: type[ProcessSettings] | None = None) -> str:
    """All settings of a process, without those that are as in `base`."""
    known = base.model_fields if base else {}
    own = {name: field for name, field in kind.model_fields.items() if not _is_same(field, known.get(name))}
    return table(
        ("flag", "variable", "default", "meaning"),
        (
            (f"`{_flag(name)}`", f"`VMPOWER_{name.upper()}`", _default(name, field), field.description or "")
            for name, field in own.items()
        ),
    )


def _is_same(field: FieldInfo, known: FieldInfo | None) -> bool:
    """Whether a setting is told of already, with this default and meaning."""
    return known is not None and (field.default, field.description) == (known.default, known.description)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if name in COMPUTED:
        return COMPUTED[name]
    value = field.get_default(call_default_factory=True, validated_data={})
    if value in (None, "", ()):
        return ""
    return f"`{_text(value)}`"


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case Enum():
            return str(value.value)
        case timedelta():
            return to_text(value)
        case Path():
            return str(value).replace(str(Path.home()), "~")
    return str(value)


def _sentence(kind: type) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


if __name__ == "__main__":
    os.environ.pop("XDG_STATE_HOME", None)  # the page is the same on every machine
    main()
