from controller.owners import Owners
from controller.source import Key
from tests.unit.controller.builders import NOW, binding, seconds

A, B, C = (Key("VirtualMachine", namespace, "web") for namespace in ("a", "b", "c"))
LATER = NOW + seconds(60)


def test_the_first_resource_owns_the_vm() -> None:
    owners = Owners()
    assert owners.claim(A, binding()) is None
    assert owners.claim(B, binding(since=LATER)) == A


def test_the_older_binding_owns_the_vm_whatever_resource_asks_first() -> None:
    owners = Owners()
    owners.declare(B, "b", binding(since=NOW))
    assert owners.claim(A, binding(since=LATER)) == B


def test_of_bindings_of_the_same_moment_one_owns_the_vm() -> None:
    owners = Owners()
    owners.declare(B, "b", binding())
    owners.declare(A, "a", binding())
    assert (owners.claim(A, binding()), owners.claim(B, binding())) == (None, A)


def test_a_name_is_no_claim() -> None:
    owners = Owners()
    owners.claim(A, binding("id-1", name="web"))
    assert owners.claim(B, binding("id-2", name="web")) is None


def test_one_vm_reached_by_two_providers_has_one_owner() -> None:
    owners = Owners()
    owners.claim(A, binding("100", provider="first", hypervisor="proxmox https://a,https://b"))
    assert owners.claim(B, binding("100", provider="second", hypervisor="proxmox https://b", since=LATER)) == A


def test_the_same_number_at_two_hypervisors_is_two_vms() -> None:
    owners = Owners()
    owners.claim(A, binding("100", hypervisor="proxmox https://a"))
    assert owners.claim(B, binding("100", hypervisor="proxmox https://b")) is None


def test_the_next_resource_is_told_when_the_owner_goes() -> None:
    woken = list[Key]()
    owners = Owners(woken.append)
    owners.declare(A, "a", None)
    owners.claim(A, binding())
    owners.claim(B, binding(since=LATER))
    owners.release(A)
    assert woken == [B]
    assert owners.claim(B, binding(since=LATER)) is None


def test_the_next_resource_is_told_when_the_owner_is_rebound_to_another_vm() -> None:
    woken = list[Key]()
    owners = Owners(woken.append)
    owners.claim(A, binding())
    owners.claim(B, binding(since=LATER))
    owners.claim(A, binding("id-other", since=LATER))
    assert woken == [B]


def test_a_resource_that_leads_to_no_vm_any_more_claims_none() -> None:
    owners = Owners()
    owners.claim(A, binding())
    owners.claim(B, binding(since=LATER))
    owners.abandon(B)
    owners.release(A)
    assert owners.claim(C, binding(since=LATER + seconds(1))) is None


def test_a_resource_made_anew_under_its_name_inherits_no_claim() -> None:
    owners = Owners()
    owners.declare(A, "first", binding())
    owners.declare(A, "second", None)
    assert owners.claim(B, binding(since=LATER)) is None


def test_a_provider_is_used_by_owners_alone() -> None:
    owners = Owners()
    owners.claim(A, binding())
    owners.claim(B, binding(provider="uid-other", since=LATER))
    assert (owners.bound_to("uid-local"), owners.bound_to("uid-other")) == (1, 0)


def test_a_uid_is_known_while_its_resource_is_declared() -> None:
    owners = Owners()
    owners.declare(A, "a", None)
    assert owners.is_declared("a")
    owners.release(A)
    assert not owners.is_declared("a")


def test_of_those_that_name_a_vm_one_owns_it() -> None:
    owners = Owners()
    owners.claim(A, binding())
    owners.claim(B, binding(since=LATER))
    assert [owners.owns(key) for key in (A, B, C)] == [True, False, False]
