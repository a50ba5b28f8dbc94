"""Which VMs somebody may have what done to: the terms in which operators grant that, to tenants and to clients. Pure.

What a VM is called, and how it is labelled, is what its hypervisor says: whoever may rename or label VMs there decides
which of them a rule is about.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Words = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...], Field(max_length=1000)]


class Right(StrEnum):
    """What may be done to a VM. All but POWER are about hooks."""

    POWER = "power"
    """Power it on and off, shut it down, and decide about what is under way."""
    EXEC = "exec"
    """Run programs in its guest."""
    HTTP = "http"
    """Call URLs, and connect to ports."""
    SNAPSHOT = "snapshot"


class Scope(BaseModel):
    """Some VMs of a provider: those that meet all that is given. A field that is not known is refused, as one that is
    misspelt would otherwise widen the scope."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: Words = ()
    labels: Annotated[dict[str, str], Field(max_length=100)] = Field(default_factory=dict)
    pool: str = ""
    folder: str = ""

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if not (self.names or self.labels or self.pool or self.folder):
            raise ValueError("give names, labels, pool or folder; leave it out for all VMs")
        return self

    def covers(self, vm_id: str, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a VM is one of them. `names` are names or ids; `pool` is a resource pool of Proxmox VE (its label
        `pool`), `folder` a folder of vSphere's inventory with all below it (the label `path`)."""
        named = not self.names or vm_id in self.names or name in self.names
        labelled = all(labels.get(label) == value for label, value in self.labels.items())
        pooled = not self.pool or labels.get("pool") == self.pool
        return named and labelled and pooled and self._holds(labels.get("path", ""))

    def _holds(self, path: str) -> bool:
        folder = self.folder.strip("/")
        return not folder or path.strip("/").startswith(f"{folder}/")


class Rule(Protocol):
    """Rights, to some VMs or, without `vms`, to all; to whom, its kind says."""

    @property
    def vms(self) -> Scope | None: ...

    @property
    def allow(self) -> tuple[Right, ...]: ...


def granted(rules: Iterable[Rule], vm_id: str, name: str, labels: Mapping[str, str]) -> frozenset[Right]:
    """The rights that rules give to a VM: they add up."""
    covering = (rule for rule in rules if rule.vms is None or rule.vms.covers(vm_id, name, labels))
    return frozenset(right for rule in covering for right in rule.allow)
