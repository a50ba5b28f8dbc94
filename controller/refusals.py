"""What a provider refuses of a request, in the fields of the manifest that the request was made of. Pure.

Owners of resources know `spec.lifecycle.preStop.httpGet.url`; `pre_stop[0].http_get.url` is for who writes the request.
"""

import re

from pydantic.alias_generators import to_camel

from client.errors import ProviderError
from controller.annotations import DECISION, REASON
from controller.models import Hook, Lifecycle, VirtualMachine

LIFECYCLE = "spec.lifecycle"
FIELDS = {
    "vm": "spec.vmName",
    "timeout": f"{LIFECYCLE}.gracefulShutdownTimeout",
    "guest_credentials": f"{LIFECYCLE}.guestCredentialsSecretRef",
    "reason": f"metadata.annotations.{REASON}",
    "extension": f"metadata.annotations.{DECISION}",
    **{name: f"{LIFECYCLE}.{to_camel(name)}" for name in ("escalation", "signal_policy", "pre_stop", "post_start")},
}
"""Where the manifest has what a request's field was made of; what is not here is the controller's own."""


def in_manifest(error: ProviderError, resource: VirtualMachine) -> ProviderError:
    """The same refusal, with the manifest's fields in place of the request's."""
    if not error.violations:
        return error
    violations = [(manifest_field(field, resource.spec.lifecycle), why) for field, why in error.violations]
    message = "; ".join(map(": ".join, violations)) + ". Mend the resource."
    return ProviderError(error.code, message, error.reason, error.metadata, violations, retry_after=error.retry_after)


def manifest_field(field: str, lifecycle: Lifecycle) -> str:
    """Where the manifest has this field of a request; the field itself, where no manifest has it."""
    found = re.fullmatch(r"(\w+)(?:\[(\d+)\])?(.*)", field, re.ASCII | re.DOTALL)
    if found is None or found[1] not in FIELDS:
        return field
    name, index, rest = found[1], found[2], found[3]
    if name == "guest_credentials":  # what is in the Secret has names of its own
        return FIELDS[name]
    hooks: tuple[Hook, ...] = getattr(lifecycle, name, ()) if name in {"pre_stop", "post_start"} else ()
    if index is not None and int(index) < len(hooks):
        place = f".hooks[{index}]" if len(hooks) > 1 else ""
        return FIELDS[name] + place + _of_hook(rest, hooks[int(index)])
    return FIELDS[name] + (f"[{index}]" if index else "") + _camel(rest)


def _of_hook(rest: str, hook: Hook) -> str:
    """A URL that was put together of host, port and path is all of httpGet."""
    if hook.http_get and not hook.http_get.url and rest == ".http_get.url":
        return ".httpGet"
    return _camel(rest)


def _camel(path: str) -> str:
    return re.sub(r"\w+", lambda part: to_camel(part[0]), path)
