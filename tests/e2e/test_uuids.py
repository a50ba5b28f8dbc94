"""A UUID as people write it: on libvirt (its test driver has one VM) and on vSphere."""

from collections.abc import Callable, Iterator

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.calls import Calls, calls
from tests.rigs.process import Provider
from tests.rigs.vsphere.provider import provider as on
from tests.rigs.vsphere.vcenter import VCenter

Form = Callable[[str], str]
FORMS: dict[str, Form] = {
    "upper case": str.upper,
    "no dashes": lambda vm_id: vm_id.replace("-", ""),
    "a URN": "urn:uuid:{}".format,
    "braces": "{{{}}}".format,
}


@pytest.fixture(scope="module", params=["libvirt", "vsphere"])
def client(request: pytest.FixtureRequest) -> Iterator[Calls]:
    """A caller of a provider that has one VM, `test`, which runs."""
    if request.param == "libvirt":
        with Provider("libvirt", "--uri", "test:///default") as provider, calls(provider.address) as client:
            yield client
    else:
        with (
            VCenter({"test": {"ignores": True}}) as vcenter,
            on(vcenter) as provider,
            calls(provider.address) as client,
        ):
            yield client


@pytest.fixture
def vm_id(client: Calls) -> str:
    return client.vm("test").id


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_vm_is_found_by_its_uuid_in_another_form(client: Calls, vm_id: str, form: Form) -> None:
    assert client.vm(form(vm_id)).id == vm_id
    assert [vm.id for vm in client.stub.ForecastShutdown(pb.ForecastShutdownRequest(vm=form(vm_id))).vms] == [vm_id]


def test_requests_by_several_forms_are_about_one_vm(client: Calls, vm_id: str) -> None:
    first = client.stub.Shutdown(pb.ShutdownRequest(vm=vm_id, request_id="one", escalation=pb.ESCALATION_NEVER))
    assert first.vm == vm_id
    for form in FORMS.values():
        again = pb.ShutdownRequest(vm=form(vm_id), request_id="one", escalation=pb.ESCALATION_NEVER)
        assert client.stub.Shutdown(again).id == first.id
        listed = client.stub.ListOperations(pb.ListOperationsRequest(vm=form(vm_id)))
        assert [operation.id for operation in listed.operations] == [first.id]
