"""The rig's vCenter: sessions, outages, inventory, and how soon it tells."""

import hashlib
import http.client
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from tests.rigs.go import go
from tests.rigs.polling import poll
from tests.rigs.vsphere.client import Following, client, machine
from tests.rigs.vsphere.vcenter import SIM, VCenter

VMS: dict[str, dict[str, object]] = {
    "web": {"shutdown_time": "100ms"},
    "twin-1": {"name": "twin", "folder": "a"},
    "twin-2": {"name": "twin", "folder": "b"},
    "far": {"datacenter": "DC2"},
    "pooled": {"pool": "gold/inner"},
    "gäste-☕": {},
}
POWER = ["name", "runtime.powerState"]


@pytest.fixture
def rig() -> Iterator[VCenter]:
    with VCenter(VMS) as rig:
        yield rig


@pytest.fixture
def content(rig: VCenter) -> Iterator[Any]:
    with client(rig) as content:
        yield content


def names(following: Following) -> list[str]:
    return sorted(known["name"] for known in following.values.values())


def renew(content: Any) -> None:
    """The client's connections were cut, and it finds out by using them."""
    content.rootFolder._stub.DropConnections()


def test_a_session_that_expires_is_not_authenticated(rig: VCenter, content: Any) -> None:
    rig.expire_sessions()
    with pytest.raises(vim.fault.NotAuthenticated, match=r"The session is not authenticated\."):
        machine(content, rig, "web").ShutdownGuest()


def test_who_waits_when_the_session_expires_is_told(rig: VCenter, content: Any) -> None:
    following = Following(content, POWER)
    rig.reset_calls()
    waiting = threading.Thread(target=expire_when_waited_for, args=(rig,))
    waiting.start()
    with pytest.raises(vim.fault.NotAuthenticated):
        following.turn()
    waiting.join()


def expire_when_waited_for(rig: VCenter) -> None:
    poll(lambda: rig.calls().get("WaitForUpdatesEx"))
    rig.expire_sessions()


def test_a_password_that_was_rotated_is_needed_by_the_next_login(rig: VCenter, content: Any) -> None:
    rig.rotate_password("neu")
    assert (rig.credentials / "password").read_text() == "neu"
    machine(content, rig, "web").ShutdownGuest()
    rig.password = "alt"
    with pytest.raises(vim.fault.InvalidLogin, match="incorrect user name or password"), client(rig):
        pass


def test_a_vcenter_that_is_stopped_takes_no_connections(rig: VCenter) -> None:
    rig.stop()
    with pytest.raises(ConnectionRefusedError), client(rig):
        pass


def test_sessions_and_versions_survive_an_outage_if_they_may(rig: VCenter, content: Any) -> None:
    following = Following(content, POWER)
    moid = rig.show("web")["moid"]
    rig.stop(keep_sessions=True)
    rig.power("web", "off")
    rig.start()
    renew(content)
    following.until(moid, "runtime.powerState", "poweredOff")


def test_an_update_that_was_lost_on_its_way_is_told_again(rig: VCenter, content: Any) -> None:
    following = Following(content, POWER)
    rig.power("web", "off")
    rig.faults(WaitForUpdatesEx=["lost"])
    with pytest.raises(http.client.RemoteDisconnected):
        following.turn()
    following.until(rig.show("web")["moid"], "runtime.powerState", "poweredOff")


def test_sessions_are_lost_otherwise(rig: VCenter, content: Any) -> None:
    rig.stop(keep_sessions=False)
    rig.start()
    renew(content)
    with pytest.raises(vim.fault.NotAuthenticated):
        machine(content, rig, "web").ShutdownGuest()


def test_a_vcenter_that_is_coming_up_answers_503(rig: VCenter) -> None:
    rig.stop(busy=True)
    url = rig.url.split("/")[2]
    connection = http.client.HTTPSConnection(url, context=ssl.create_default_context(cafile=str(rig.ca)))
    connection.request("POST", "/sdk", b"")
    assert connection.getresponse().status == 503
    connection.close()


def test_an_outage_ends_by_itself(rig: VCenter) -> None:
    rig.outage(0.2, keep_sessions=True)

    def answers() -> bool:
        with suppress(ConnectionRefusedError), client(rig):
            return True
        return False

    poll(answers, timeout=10)


def test_calls_are_counted_when_they_fail_too(rig: VCenter, content: Any) -> None:
    rig.set("web", refuses=True)
    rig.reset_calls()
    with pytest.raises(vim.fault.InvalidState):
        machine(content, rig, "web").ShutdownGuest()
    assert rig.calls() == {"ShutdownGuest": 1}


@pytest.mark.usefixtures("content")
def test_connections_are_counted(rig: VCenter) -> None:
    assert rig.connections().open >= 1
    rig.stop()
    assert rig.connections().open == 0


@pytest.mark.usefixtures("content")
def test_the_most_connections_at_once_are_remembered(rig: VCenter) -> None:
    rig.stop()
    assert rig.connections().peak >= 1


def test_an_answer_that_is_lost_was_given(rig: VCenter, content: Any) -> None:
    following = Following(content, POWER)
    rig.set("web", faults={"ShutdownGuest": ["lost"]})
    with pytest.raises(http.client.RemoteDisconnected):
        machine(content, rig, "web").ShutdownGuest()
    following.until(rig.show("web")["moid"], "runtime.powerState", "poweredOff")


def test_a_call_that_is_cut_never_came(rig: VCenter, content: Any) -> None:
    rig.set("web", faults={"ShutdownGuest": ["cut"]})
    with pytest.raises(http.client.RemoteDisconnected):
        machine(content, rig, "web").ShutdownGuest()
    assert rig.show("web")["asked_at"] == []


def test_the_thumbprint_is_that_of_the_certificate(rig: VCenter) -> None:
    host, _, port = rig.url.split("/")[2].partition(":")
    der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port))))
    assert rig.thumbprint.sha256.replace(":", "").lower() == hashlib.sha256(der).hexdigest()


def test_latency_is_added_to_every_call() -> None:
    with VCenter({"web": {}}, latency=0.1) as rig, client(rig) as content:
        began = time.monotonic()
        machine(content, rig, "web").ShutdownGuest()
        assert time.monotonic() - began >= 0.1


def test_vms_lie_in_their_datacenters_folders_and_pools(content: Any) -> None:
    here, there = sorted(content.rootFolder.childEntity, key=lambda dc: dc.name)
    assert (here.name, there.name) == ("DC0", "DC2")
    assert names(Following(content, POWER, there)) == ["far"]
    folder = content.searchIndex.FindByInventoryPath("DC0/vm/b")
    assert names(Following(content, POWER, folder)) == ["twin"]
    pool = content.searchIndex.FindByInventoryPath("DC0/host/DC0_C0/Resources/gold")
    assert names(Following(content, POWER, pool)) == ["pooled"]


def test_what_happens_to_the_inventory_is_told(rig: VCenter, content: Any) -> None:
    following = Following(content, [*POWER, "parent"])
    rig.add("new")
    following.until(rig.show("new")["moid"], "name", "new")
    rig.rename("new", "newer")
    following.until(rig.show("new")["moid"], "name", "newer")
    moid = rig.show("new")["moid"]
    rig.move("new", "a")
    while following.values[moid]["parent"].name != "a":
        following.turn()
    rig.remove("new")
    while moid in following.values:
        following.turn()


def test_who_is_moved_into_a_folder_enters_its_view(rig: VCenter, content: Any) -> None:
    following = Following(content, POWER, content.searchIndex.FindByInventoryPath("DC0/vm/a"))
    rig.move("web", "a")
    following.until(rig.show("web")["moid"], "name", "web")
    rig.move("web", "b")
    while rig.show("web")["moid"] in following.values:
        following.turn()


def test_two_in_one_folder_cannot_share_a_name(rig: VCenter) -> None:
    with pytest.raises(ValueError, match="DuplicateName"):
        rig.add("twin-3", name="twin", folder="a")


def test_many_that_go_off_together_are_told_together() -> None:
    with VCenter({"node": {"count": 200}}) as rig, client(rig) as content:
        following = Following(content, POWER)
        nodes = [f"node-{number:04}" for number in range(1, 201)]
        rig.power(nodes, "off")
        began = time.time()
        while any(known["runtime.powerState"] == "poweredOn" for known in following.values.values()):
            following.turn()
        assert time.time() - began < 1
        assert len(following.values) == len(nodes)


def test_an_unknown_version_of_updates_is_refused(rig: VCenter, content: Any) -> None:
    Following(content, POWER)
    with pytest.raises(vmodl.query.InvalidCollectorVersion):
        content.propertyCollector.WaitForUpdatesEx("4711")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("check", ["vet", "test"])
def test_the_program_passes_its_own_checks(check: str) -> None:
    go(check, "./...", module=SIM)


def test_nothing_is_left_of_a_rig() -> None:
    with VCenter({"web": {}}) as rig:
        assert rig.folder.exists()
    assert not rig.folder.exists()
    assert not rig.process.runs()
