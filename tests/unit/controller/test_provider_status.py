from controller.provider_status import provider_status
from controller.status_models import Capabilities, ProviderStatus
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import NOW, provider, seconds
from tests.unit.controller.fakes import FakeClient


def status(client: FakeClient, before: ProviderStatus | None = None, later: float = 0) -> ProviderStatus:
    resource = provider().model_copy(update={"status": before or ProviderStatus()})
    return provider_status(resource, client, 5, 0, NOW + seconds(later))


def test_a_provider_that_answers_is_ready_and_says_what_it_is() -> None:
    client = FakeClient()
    client.info = pb.GetProviderInfoResponse(type="sim", version="7", signals=[pb.SIGNAL_ACPI], guest_exec=True)
    said = status(client)
    assert (said.phase, said.type, said.version, said.conditions[0].status) == ("Ready", "sim", "7", "True")
    assert said.capabilities == Capabilities(signals=("ACPI",), guest_exec=True, snapshot=False)
    assert (said.vm_count, said.declared_count) == (1, 5)


def test_a_provider_that_is_away_keeps_what_was_known_and_says_why() -> None:
    client = FakeClient()
    before = status(client)
    client.reachable, client.problem = False, "connection refused"
    said = status(client, before, later=9)
    assert (said.phase, said.version, said.conditions[0].message) == ("Unreachable", "1", "connection refused")
    assert said.conditions[0].last_transition_time == NOW + seconds(9)


def test_nothing_is_said_before_anything_is_known() -> None:
    client = FakeClient()
    client.reachable = None
    assert status(client) == ProviderStatus()


def test_a_provider_whose_hypervisor_is_away_is_not_ready_and_reachable() -> None:
    client = FakeClient()
    client.hypervisor_problem = "sim does not answer"
    said = status(client)
    assert said.phase == "HypervisorUnreachable"
    assert {each.type: each.status for each in said.conditions} == {
        "Ready": "False",
        "ProviderReachable": "True",
        "HypervisorReachable": "False",
    }


def test_a_provider_without_an_endpoint_says_so() -> None:
    client = FakeClient()
    client.reachable, client.reason, client.problem = False, "NoEndpoint", "write one"
    said = status(client)
    assert said.phase == "NoEndpoint"
    assert {each.type: (each.status, each.reason) for each in said.conditions} == {
        "Ready": ("False", "NoEndpoint"),
        "ProviderReachable": ("False", "NoEndpoint"),
        "HypervisorReachable": ("Unknown", "NoEndpoint"),
    }
