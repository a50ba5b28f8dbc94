"""The login in the guest comes from a Secret, reaches the provider when it is used, and is written nowhere."""

import base64
from collections.abc import Iterator

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object
from tests.rigs.tap import Tap

SCRIPT = "guests: {web: {shutdown_time: 500ms, count: 6}}"
USERNAME, PASSWORD = "administrator-7d1f", "hunter2-c0ffee"
FORMS = (PASSWORD.encode(), base64.b64encode(PASSWORD.encode()))
HOOKED = {"preStop": {"exec": {"command": ["save"]}}}


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Lab]:
    with open_lab(cluster, SCRIPT, secrets=["given", "late", "half"]) as lab:
        write_secret(lab, "given", username=USERNAME, password=PASSWORD)
        write_secret(lab, "ours-not", username=USERNAME, password=PASSWORD)
        write_secret(lab, "half", username=USERNAME)
        yield lab


@pytest.fixture(scope="module")
def tap(lab: Lab) -> Iterator[Tap]:
    """On the line between the controller and the provider."""
    with Tap(lab.provider.address) as tap:
        lab.vms.declare_provider("lab", tap.address)
        yield tap


def write_secret(lab: Lab, name: str, **values: str) -> None:
    literals = [f"--from-literal={key}={value}" for key, value in values.items()]
    lab.vms.kubectl("create", "secret", "generic", name, *literals)


def shut_down(lab: Lab, vm: str, secret: str, lifecycle: Object | None = None) -> None:
    reference = {"guestCredentialsSecretRef": {"name": secret}}
    lab.vms.declare(vm, "OffGraceful", (HOOKED if lifecycle is None else lifecycle) | reference)


def went_down(status: Object) -> bool:
    return status.get("phase") == "Off" and "lastPowerOff" in status


def unavailable(status: Object) -> bool:
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    ready = conditions.get("Ready", {})
    return (ready.get("status"), ready.get("reason")) == ("False", "GuestCredentialsUnavailable")


def logins(tap: Tap, vm_id: str) -> list[tuple[str, str]]:
    """Those of the requests to shut one VM down."""
    requests = map(pb.ShutdownRequest.FromString, tap.requests("Shutdown"))
    given = [request.guest_credentials for request in requests if request.vm == vm_id]
    return [(login.username, login.password) for login in given]


def test_they_reach_the_provider(lab: Lab, tap: Tap) -> None:
    shut_down(lab, "web-0001", "given")
    status = lab.vms.wait_status("web-0001", went_down)
    assert status["lastPowerOff"]["hooks"][0]["state"] == "SUCCEEDED"
    assert logins(tap, status["id"]) == [(USERNAME, PASSWORD)]


def test_they_are_not_sent_where_no_program_runs_in_the_guest(lab: Lab, tap: Tap) -> None:
    shut_down(lab, "web-0002", "given", {})
    status = lab.vms.wait_status("web-0002", went_down)
    assert logins(tap, status["id"]) == [("", "")]


def test_nothing_is_done_without_them_and_all_goes_on_when_they_are_there(lab: Lab) -> None:
    shut_down(lab, "web-0003", "late")
    lab.vms.wait_status("web-0003", unavailable)
    assert lab.operations("web-0003") == []
    write_secret(lab, "late", username=USERNAME, password=PASSWORD)
    assert lab.vms.wait_status("web-0003", went_down)["lastPowerOff"]["outcome"] == "GRACEFUL"


@pytest.mark.parametrize(
    ("vm", "secret", "sentence"),
    [
        ("web-0004", "half", "needs username and password, as text; whoever owns it mends it."),
        ("web-0005", "ours-not", "the cluster's administrator grants it in the controller's Role."),
    ],
    ids=["half of it", "one that the chart does not name"],
)
def test_the_status_says_who_mends_a_secret_that_cannot_be_used(lab: Lab, vm: str, secret: str, sentence: str) -> None:
    shut_down(lab, vm, secret)
    ready = next(one for one in lab.vms.wait_status(vm, unavailable)["conditions"] if one["type"] == "Ready")
    assert ready["message"].endswith(sentence)
    assert lab.operations(vm) == []


def test_they_are_written_nowhere(lab: Lab) -> None:
    shut_down(lab, "web-0006", "given")
    lab.vms.wait_status("web-0006", went_down)
    lab.vms.wait_event("web-0006", "GracefulShutdown")
    folders = (lab.controller.folder, lab.provider.folder)
    written = {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
    written["resources"] = lab.vms.kubectl("get", "vm,vmprov,events", "--output", "yaml").encode()
    assert {"log", "sim.journal.db", "resources"} <= {name.rpartition("/")[2] for name in written}
    assert [name for name, text in written.items() if any(form in text for form in FORMS)] == []
