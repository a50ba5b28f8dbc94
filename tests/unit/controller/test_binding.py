from controller.binding import Obstacle, Place, hypervisor_of, identities, is_bound_to, resolve
from controller.models import VirtualMachine
from controller.status_models import Binding
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import NOW, binding, machine, record, seconds, vm, with_status

HERE = Place("uid-local", "sim")
LATER = NOW + seconds(60)
OTHER = pb.VM(id="id-other", name="web", power_state=pb.POWER_STATE_ON)


def bound(**spec: object) -> VirtualMachine:
    """A resource that is bound to id-web."""
    return with_status(machine(spec=spec), vm=binding())


def rebound(vm_id: str, resource: VirtualMachine | None = None) -> VirtualMachine:
    resource = resource or bound()
    meta = resource.metadata.model_copy(update={"annotations": {"vmpower/rebind": vm_id}})
    return resource.model_copy(update={"metadata": meta})


def taken(found: Binding | Obstacle | None) -> Binding:
    assert isinstance(found, Binding)
    return found


def refused(found: Binding | Obstacle | None) -> Obstacle:
    assert isinstance(found, Obstacle)
    return found


def test_the_first_vm_that_is_found_is_bound() -> None:
    assert resolve(machine(), HERE, vm(), NOW) == binding()


def test_nothing_is_bound_while_there_is_no_vm() -> None:
    assert resolve(machine(), HERE, None, NOW) is None


def test_a_binding_stays_as_it_is() -> None:
    assert resolve(bound(), HERE, vm(), LATER) == binding()


def test_a_vm_that_was_renamed_at_its_hypervisor_stays_bound() -> None:
    assert resolve(bound(), HERE, None, LATER) == binding()


def test_another_vm_under_the_same_name_is_not_bound_and_is_named() -> None:
    obstacle = refused(resolve(bound(), HERE, OTHER, LATER))
    assert obstacle.reason == "Replaced"
    assert "vmpower/rebind=id-other" in obstacle.message


def test_the_same_id_at_another_hypervisor_is_another_vm() -> None:
    obstacle = refused(resolve(bound(), Place("uid-local", "sim sim:///elsewhere"), vm(), LATER))
    assert (obstacle.reason, "sim:///elsewhere" in obstacle.message) == ("Replaced", True)


def test_an_endpoint_that_leads_to_another_hypervisor_without_such_a_vm_is_said() -> None:
    assert refused(resolve(bound(), Place("uid-local", "sim b"), None, LATER)).reason == "Replaced"


def test_a_spec_that_names_another_vm_which_is_not_there_is_said() -> None:
    assert refused(resolve(bound(vmName="db"), HERE, None, LATER)).reason == "Replaced"


def test_a_rebind_binds_the_vm_that_it_names() -> None:
    found = taken(resolve(rebound("id-other"), HERE, OTHER, LATER))
    assert (found.id, found.since) == ("id-other", LATER)


def test_a_rebind_to_a_vm_that_the_spec_does_not_lead_to_changes_nothing() -> None:
    assert refused(resolve(rebound("id-third"), HERE, OTHER, LATER)).reason == "Replaced"


def test_a_rebind_by_an_id_of_no_vm_there_is_told() -> None:
    message = refused(resolve(rebound("id-nowhere"), HERE, OTHER, LATER)).message
    assert "and vmpower/rebind names 'id-nowhere', which is not it" in message


def test_a_rebind_to_the_vm_that_is_bound_changes_nothing() -> None:
    assert resolve(rebound("id-web"), HERE, vm(), LATER) == binding()


def test_attempts_after_a_rebind_have_numbers_that_no_earlier_one_had() -> None:
    once = with_status(bound(), operation=record(attempt=3))
    found = taken(resolve(rebound("id-other", once), HERE, OTHER, LATER))
    assert found.first_attempt == 4
    again = with_status(once, vm=found, operation=None)
    assert taken(resolve(rebound("id-web", again), HERE, vm(), LATER)).first_attempt == 5


def test_a_provider_that_was_declared_anew_for_the_same_hypervisor_keeps_the_vm() -> None:
    found = taken(resolve(bound(), Place("uid-second", "sim"), vm(), LATER))
    assert found == binding(provider="uid-second")


def test_uuids_are_compared_without_the_endpoint_and_numbers_with_it() -> None:
    def hypervisor(kind: str) -> str:
        return hypervisor_of(pb.GetProviderInfoResponse(type=kind, endpoint="https://a"))

    assert [hypervisor(kind) for kind in ("libvirt", "vsphere", "proxmox")] == [
        "libvirt",
        "vsphere",
        "proxmox https://a",
    ]


def test_a_cluster_is_the_same_by_any_of_its_addresses() -> None:
    known = binding("100", hypervisor="proxmox https://a,https://b")
    assert is_bound_to(known, Place("", "proxmox https://b,https://c"), "100")
    assert not is_bound_to(known, Place("", "proxmox https://c"), "100")
    assert identities("proxmox a", "100").isdisjoint(identities("sim a", "100"))
