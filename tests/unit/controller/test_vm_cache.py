import pytest

from client.errors import ProviderError
from controller.vm_cache import VMCache
from protos.power.v1 import power_pb2 as pb


def cached(*vms: tuple[str, str]) -> VMCache:
    return VMCache(pb.VM(id=vm_id, name=name, power_state=pb.POWER_STATE_ON) for vm_id, name in vms)


def test_a_vm_is_found_by_id_and_by_name() -> None:
    known = cached(("1", "web"), ("2", "db"))
    assert known.find("1") is known.find("web")
    assert known.find("nobody") is None


def test_an_id_comes_before_a_name() -> None:
    found = cached(("web", "other"), ("2", "web")).find("web")
    assert found
    assert found.name == "other"


def test_a_name_that_two_bear_is_refused_with_their_ids() -> None:
    with pytest.raises(ProviderError, match="1, 2") as caught:
        cached(("1", "web"), ("2", "web")).find("web")
    assert caught.value.reason == "AMBIGUOUS_NAME"


def test_a_renamed_vm_is_found_by_its_new_name_only() -> None:
    known = cached(("1", "web"))
    known.put(pb.VM(id="1", name="www", power_state=pb.POWER_STATE_ON))
    assert (known.find("web"), len(known)) == (None, 1)
    assert known.find("www")


def test_an_older_state_that_comes_late_takes_no_newer_ones_place() -> None:
    known = VMCache()
    for sequence, power in ((2, pb.POWER_STATE_SUSPENDED), (1, pb.POWER_STATE_ON)):
        known.put(pb.VM(id="1", name="web", power_state=power, sequence=sequence))
    found = known.get("1")
    assert found
    assert found.power_state == pb.POWER_STATE_SUSPENDED


def test_what_is_gone_is_not_found() -> None:
    known = cached(("1", "web"), ("2", "web"))
    assert known.remove("1")
    assert known.remove("1") is None
    assert known.find("web") is known.find("2")
