"""Which resource owns a VM that several name: the one whose binding is older."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from controller.binding import Identity, identities
from controller.source import Key
from controller.status_models import Binding


@dataclass(frozen=True, slots=True)
class _Claim:
    binding: Binding
    names: frozenset[Identity]

    @property
    def since(self) -> datetime:
        return self.binding.since


class Owners:
    """The claims of all declared resources, in whatever namespace or file they are.

    `wake` is told of each resource that claims a VM which another one gave up."""

    def __init__(self, wake: Callable[[Key], None] = lambda _: None) -> None:
        self._wake = wake
        self._claims: dict[Key, _Claim] = {}
        self._claimants: defaultdict[Identity, set[Key]] = defaultdict(set)
        self._uids: dict[Key, str] = {}

    def declare(self, key: Key, uid: str, binding: Binding | None) -> None:
        """A resource exists; `binding` is what an earlier process bound it to."""
        if self._uids.get(key) != uid:
            self.release(key)
            self._uids[key] = uid
            if binding is not None:
                self._put(key, binding)

    def claim(self, key: Key, binding: Binding) -> Key | None:
        """Claim a VM for a resource; its owner where that is another one. The claim of the other resource waits."""
        known = self._claims.get(key)
        if known is None or known.names != identities(binding.hypervisor, binding.id):
            self._put(key, binding)
        owner = self._owner(key)
        if owner == key and binding != self._claims[key].binding:
            self._put(key, binding)
        return None if owner == key else owner

    def abandon(self, key: Key) -> None:
        """A resource leads to no VM."""
        self._drop(key)

    def release(self, key: Key) -> None:
        """A resource is gone."""
        self._uids.pop(key, None)
        self._drop(key)

    def owns(self, key: Key) -> bool:
        """Whether a resource is bound to a VM, and no other one was before."""
        return key in self._claims and self._owner(key) == key

    def is_declared(self, uid: str) -> bool:
        """Whether there is a resource with this uid."""
        return uid in self._uids.values()

    def bound_to(self, provider: str) -> int:
        """How many resources own VMs of the Provider with this uid."""
        named = (key for key, claim in self._claims.items() if claim.binding.provider == provider)
        return sum(self.owns(key) for key in named)

    def _owner(self, key: Key) -> Key:
        return min(self._rivals(key), key=lambda each: (self._claims[each].since, each))

    def _rivals(self, key: Key) -> set[Key]:
        return set().union(*self._of(self._claims[key].names))

    def _of(self, names: Iterable[Identity]) -> Iterable[set[Key]]:
        return (self._claimants[name] for name in names)

    def _put(self, key: Key, binding: Binding) -> None:
        claim, known = _Claim(binding, identities(binding.hypervisor, binding.id)), self._claims.get(key)
        if known is None or known.names != claim.names:
            self._drop(key)
        self._claims[key] = claim
        for claimants in self._of(claim.names):
            claimants.add(key)

    def _drop(self, key: Key) -> None:
        claim = self._claims.pop(key, None)
        for name in claim.names if claim else ():
            self._claimants[name].discard(key)
            for rival in self._claimants[name]:
                self._wake(rival)
            if not self._claimants[name]:
                del self._claimants[name]
