"""The VMs of one provider as last reported, found by id or by name."""

from collections.abc import Iterable

from client.errors import ProviderError
from protos.power.v1 import power_pb2 as pb


class VMCache:
    """The VMs of one provider as last reported, found by id or by name."""

    def __init__(self, vms: Iterable[pb.VM] = ()) -> None:
        self._vms: dict[str, pb.VM] = {}
        self._ids: dict[str, set[str]] = {}
        for vm in vms:
            self.put(vm)

    def __len__(self) -> int:
        return len(self._vms)

    def put(self, vm: pb.VM) -> None:
        """Add one VM, in place of what was known under its id, unless that is a later state of it."""
        known = self._vms.get(vm.id)
        if known is not None and known.sequence > vm.sequence:
            return
        self.remove(vm.id)
        self._vms[vm.id] = vm
        self._ids.setdefault(vm.name, set()).add(vm.id)

    def remove(self, vm_id: str) -> pb.VM | None:
        vm = self._vms.pop(vm_id, None)
        if vm is not None:
            self._ids[vm.name].discard(vm_id)
            if not self._ids[vm.name]:
                del self._ids[vm.name]
        return vm

    def get(self, vm_id: str) -> pb.VM | None:
        return self._vms.get(vm_id)

    def find(self, name: str, preferred: str = "") -> pb.VM | None:
        """The VM whose id is `name`, else the only VM of that name; of several the one whose id is `preferred`.

        Raises:
            ProviderError: AMBIGUOUS_NAME: several VMs have it; the resource's owner writes an id.
        """
        ids = {name} if name in self._vms else self._ids.get(name, set())
        if preferred in ids:
            return self._vms[preferred]
        if len(ids) > 1:
            raise ProviderError(
                "FAILED_PRECONDITION",
                f"Several VMs are named {name!r}: {', '.join(sorted(ids))}. Write one of these ids as vmName.",
                "AMBIGUOUS_NAME",
            )
        return next((self._vms[vm_id] for vm_id in ids), None)
