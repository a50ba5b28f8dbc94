"""What a VM may be called by: the only place that knows that one id can be written in several ways."""

import re
from collections.abc import Iterable

_UUID = re.compile(r"([0-9a-f]{8})(-?)([0-9a-f]{4})\2([0-9a-f]{4})\2([0-9a-f]{4})\2([0-9a-f]{12})", re.ASCII)
"""With all of its dashes, or with none. Python's UUID takes them anywhere, and underscores besides."""


def canonical(name: str) -> str:
    """A UUID as hypervisors write it, in whichever form people do (RFC 9562: upper case, braces, `urn:uuid:`, without
    dashes); anything else as it is."""
    plain = name.lower().removeprefix("urn:uuid:")
    if plain.startswith("{") and plain.endswith("}"):
        plain = plain[1:-1]
    found = _UUID.fullmatch(plain)
    return "-".join(part for part in found.groups() if len(part) > 1) if found else name


def is_uuid(name: str) -> bool:
    """Whether it is a UUID, in any form."""
    return _UUID.fullmatch(canonical(name)) is not None


def calls(name: str, vm_id: str, others: Iterable[str]) -> bool:
    """Whether `name` means the VM with this id, which is also called by the `others`."""
    return canonical(name) == canonical(vm_id) or name in others
