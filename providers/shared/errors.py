"""Errors that hypervisors share."""

from providers.core.errors import VMNotFound


def not_found(vm_id: str) -> VMNotFound:
    """That the inventory has no such VM."""
    return VMNotFound(f"There is no VM {vm_id}; name one that ListVMs shows.", {"vm": vm_id})
