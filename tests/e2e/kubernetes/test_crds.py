"""Manifests on a real API: good ones apply, bad ones are refused by a sentence about the field, kubectl reads well."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from controller.models import KINDS, Lifecycle
from controller.run_record import MOST, recorded_status, size
from controller.sources import manifests
from tests.e2e.kubernetes.crd_cases import BAD, EXEC, GOOD, STATUS, Document, plan, provider, resource, run, shared, vm
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.process import ROOT
from tests.unit.controller.test_run_record import crowd

EXAMPLES = sorted((ROOT / "deploy" / "examples").glob("*.yaml"))
BASIC = """
apiVersion: infra.virtrigaud.io/v1beta1
kind: VirtualMachine
metadata:
  name: my-vm
spec:
  providerRef: {name: lab}
  powerState: OffGraceful # Use graceful shutdown
  # ... other configuration
"""
ADVANCED = """
apiVersion: infra.virtrigaud.io/v1beta1
kind: VirtualMachine
metadata:
  name: my-vm
spec:
  providerRef: {name: lab}
  powerState: OffGraceful
  lifecycle:
    # Timeout for graceful shutdown (default: 60s)
    gracefulShutdownTimeout: "120s"
    # Pre-stop hook runs before shutdown
    preStop:
      exec:
        command:
        - "/bin/bash"
        - "-c"
        - |
          # Save application state
          systemctl stop my-application
          # Sync filesystem
          sync
"""
BARE = """
apiVersion: infra.virtrigaud.io/v1beta1
kind: VirtualMachine
metadata: {name: bare}
spec: {providerRef: {name: lab}, powerState: Off}
"""
EXAMPLE = {
    "VirtualMachine": vm({"preStop": EXEC}, powerState="OffGraceful"),
    "Provider": provider(endpoint="unix:/run/p.sock"),
    "PowerPlan": plan(others="Last"),
    "PowerRun": run(),
}

bad = pytest.mark.parametrize(("document", "field", "sentence"), BAD, ids=[f"{row[1]}: {row[2]}" for row in BAD])
good = pytest.mark.parametrize("document", GOOD.values(), ids=GOOD)
kinds = pytest.mark.parametrize("kind", KINDS)


def refusal(cluster: Cluster, document: Document | str) -> str:
    """What kubectl says of a manifest that the API does not take."""
    text = document if isinstance(document, str) else json.dumps(document)
    done = cluster.try_kubectl("apply", "--dry-run=server", "-f", "-", input=text)
    assert done.returncode == 1, done.stdout
    return done.stderr


def apply(cluster: Cluster, namespace: str, document: Document) -> None:
    cluster.kubectl("apply", "--namespace", namespace, "-f", "-", input=json.dumps(document))


def stored(cluster: Cluster, namespace: str, kind: str) -> Document:
    found: Document = json.loads(cluster.kubectl("get", kind, "web", "--namespace", namespace, "--output=json"))
    return found


def write_status(cluster: Cluster, namespace: str, kind: str) -> Document:
    """Write all that a status may hold, as the controller does; returns what was written."""
    status = STATUS[kind].model_dump(mode="json", by_alias=True, exclude_none=True)
    patch = ("--subresource=status", "--type=merge", "--patch", json.dumps({"status": status}))
    cluster.kubectl("patch", kind, "web", "--namespace", namespace, *patch)
    return status


@bad
def test_a_bad_manifest_is_refused_by_a_sentence_about_its_field(
    cluster: Cluster, document: Document, field: str, sentence: str
) -> None:
    lines = refusal(cluster, document).splitlines()
    about = [line for line in lines if f"{field}: " in line or f'"{field}"' in line]
    assert [line for line in about if sentence in line], lines


@bad
def test_the_controller_refuses_what_the_api_refuses(document: Document, field: str, sentence: str) -> None:
    with pytest.raises(ValidationError):
        KINDS[document["kind"]].model_validate(document)


@good
def test_a_good_manifest_applies(cluster: Cluster, document: Document) -> None:
    cluster.kubectl("apply", "--dry-run=server", "-f", "-", input=json.dumps(document))


@good
def test_the_controller_takes_what_the_api_takes(document: Document) -> None:
    assert KINDS[document["kind"]].model_validate(document)


@pytest.mark.parametrize(
    ("document", "slip"),
    [
        (vm({"gracefulShutdownTimeOut": "5s"}), "spec.lifecycle.gracefulShutdownTimeOut"),
        (vm({"preStop": EXEC | {"failurepolicy": "Abort"}}), "spec.lifecycle.preStop.failurepolicy"),
        (vm(providerRef={"name": "lab", "nameSpace": "infra"}), "spec.providerRef.nameSpace"),
        (
            provider(endpoint="p:1", tls={"ca": "f", "secretRef": {"name": "tls"}}),
            "spec.runtime.tls.ca",
        ),
        (
            shared({"namespaces": {"names": ["a"]}, "vms": {"names": ["b"], "lables": {}}, "allow": ["power"]}),
            "spec.access[0].vms.lables",
        ),
        (plan(other="Last"), "spec.other"),
        (plan({"name": "apps", "members": [{"vms": ["lab/web"]}], "atDeadLine": "Force"}), "spec.tiers[0].atDeadLine"),
        (run(emergnecy=True), "spec.emergnecy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_slip_of_the_pen_is_refused_by_its_name(cluster: Cluster, document: Document, slip: str) -> None:
    assert f'unknown field "{slip}"' in refusal(cluster, document)


def test_a_bare_off_is_told_to_be_a_boolean_and_which_words_may_be_written(cluster: Cluster) -> None:
    told = refusal(cluster, BARE)
    assert 'spec.powerState in body must be of type string: "boolean"' in told
    assert 'spec.powerState: Unsupported value: false: supported values: "On", "Off", "OffGraceful"' in told


@pytest.mark.parametrize("text", [BASIC, ADVANCED], ids=["basic", "advanced"])
def test_the_manifests_that_people_have_apply_as_they_are(cluster: Cluster, text: str) -> None:
    cluster.kubectl("apply", "--dry-run=server", "-f", "-", input=text)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_applies(cluster: Cluster, namespace: str, file: Path) -> None:
    cluster.kubectl("apply", "--namespace", namespace, "-f", str(file))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_says_nothing_that_the_controller_ignores(file: Path) -> None:
    reading = manifests.read(file)
    assert (len(reading.manifests), reading.problems, reading.warnings) == (1, (), ())


@pytest.mark.parametrize(
    "document",
    [
        vm(classRef={"name": "small"}, resources={"cpu": 2, "disks": [{"size": "10Gi"}]}),
        resource("Provider", {
            "type": "sim",
            "credentialSecretRef": {"name": "login"},
            "runtime": {"endpoint": "unix:/p", "service": {"port": 9443}},
        }),
    ],
    ids=["VirtualMachine", "Provider"],
)  # fmt: skip
def test_fields_of_others_survive(cluster: Cluster, namespace: str, document: Document) -> None:
    apply(cluster, namespace, document)
    assert stored(cluster, namespace, document["kind"])["spec"] == document["spec"]


@kinds
def test_a_manifest_cannot_change_the_status(cluster: Cluster, namespace: str, kind: str) -> None:
    apply(cluster, namespace, EXAMPLE[kind])
    written = write_status(cluster, namespace, kind)
    apply(cluster, namespace, EXAMPLE[kind] | {"status": {"conditions": []}})
    assert stored(cluster, namespace, kind)["status"] == written


@kinds
def test_all_that_a_status_says_is_kept(cluster: Cluster, namespace: str, kind: str) -> None:
    apply(cluster, namespace, EXAMPLE[kind])
    write_status(cluster, namespace, kind)
    assert KINDS[kind].model_validate(stored(cluster, namespace, kind)).status == STATUS[kind]


@pytest.mark.parametrize("name", ["vm", "virtualmachine", "virtualmachines"])
def test_kubectl_get_vm_shows_what_is_wanted_and_what_came_of_it(cluster: Cluster, namespace: str, name: str) -> None:
    apply(cluster, namespace, EXAMPLE["VirtualMachine"])
    write_status(cluster, namespace, "VirtualMachine")
    heading, row = cluster.kubectl("get", name, "--namespace", namespace).splitlines()
    assert heading.split() == ["NAME", "DESIRED", "STATE", "PHASE", "VERDICT", "REASON", "READY", "PAUSED", "AGE"]
    assert row.split()[:-1] == ["web", "OffGraceful", "Off", "Off", "FORCED", "TIMEOUT", "True"]


@pytest.mark.parametrize("name", ["vmprov", "provider", "providers"])
def test_kubectl_get_vmprov_shows_the_providers(cluster: Cluster, namespace: str, name: str) -> None:
    apply(cluster, namespace, EXAMPLE["Provider"])
    write_status(cluster, namespace, "Provider")
    heading, row = cluster.kubectl("get", name, "--namespace", namespace).splitlines()
    assert heading.split() == ["NAME", "TYPE", "READY", "VMS", "VERSION", "AGE"]
    assert row.split()[:-1] == ["web", "sim", "True", "5", "1.2.3"]


@pytest.mark.parametrize("name", ["pplan", "powerplan", "powerplans"])
def test_kubectl_get_powerplans_shows_the_plans(cluster: Cluster, namespace: str, name: str) -> None:
    apply(cluster, namespace, EXAMPLE["PowerPlan"])
    heading, row = cluster.kubectl("get", name, "--namespace", namespace).splitlines()
    assert heading.split() == ["NAME", "TOTAL", "OTHERS", "AGE"]
    assert row.split()[:-1] == ["web", "10m", "Last"]


@pytest.mark.parametrize("name", ["prun", "powerrun", "powerruns"])
def test_kubectl_get_powerruns_shows_where_they_stand(cluster: Cluster, namespace: str, name: str) -> None:
    apply(cluster, namespace, EXAMPLE["PowerRun"])
    write_status(cluster, namespace, "PowerRun")
    heading, row = cluster.kubectl("get", name, "--namespace", namespace).splitlines()
    assert heading.split() == ["NAME", "PLAN", "PHASE", "SLACK", "ENDS", "AGE"]
    assert row.split()[:-1] == ["web", "night", "Held", "-3.5s", "2030-01-01T12:12:00.123456Z"]


def test_the_spec_of_a_run_cannot_change(cluster: Cluster, namespace: str) -> None:
    apply(cluster, namespace, EXAMPLE["PowerRun"])
    changed = json.dumps(run(emergency=True))
    done = cluster.try_kubectl("apply", "--namespace", namespace, "-f", "-", input=changed)
    assert "a run is carried out once, so its spec cannot change; make another PowerRun" in done.stderr


def test_the_largest_status_of_a_run_is_taken(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    apply(cluster, namespace, EXAMPLE["PowerRun"])
    status = recorded_status(crowd(2400))
    assert size(status) > 0.95 * MOST
    file = tmp_path / "patch.json"
    file.write_text(json.dumps({"status": status.model_dump(mode="json", by_alias=True, exclude_none=True)}))
    patch = ("--subresource=status", "--type=merge", "--patch-file", str(file))
    cluster.kubectl("patch", "powerrun", "web", "--namespace", namespace, *patch)
    assert KINDS["PowerRun"].model_validate(stored(cluster, namespace, "PowerRun")).status == status


def test_kubectl_get_vmpower_shows_all(cluster: Cluster, namespace: str) -> None:
    for document in EXAMPLE.values():
        apply(cluster, namespace, document)
    shown = cluster.kubectl("get", "vmpower", "--namespace", namespace)
    assert "VERDICT" in shown
    assert "VERSION" in shown


def explained(cluster: Cluster, *args: str) -> dict[str, str]:
    """What `kubectl explain` says of each field, in one line."""
    _, _, listed = cluster.kubectl("explain", *args).partition("FIELDS:\n")
    entries = [entry.partition("\t") for entry in listed.strip("\n").split("\n\n") if entry]
    return {name.strip(): " ".join(said.split()) for name, _, said in entries}


def test_kubectl_explain_describes_each_field_of_a_lifecycle(cluster: Cluster) -> None:
    said = explained(cluster, "virtualmachine.spec.lifecycle")
    assert said.keys() == {field.alias for field in Lifecycle.model_fields.values()}
    assert said["gracefulShutdownTimeout"].startswith("<string> How long the guest has, from the moment it is asked")


def test_kubectl_explain_gives_the_words_that_may_be_written(cluster: Cluster) -> None:
    said = explained(cluster, "vm.spec")
    assert said["powerState"].startswith("<string> enum: On, Off, OffGraceful On: it runs. Off: powered off hard")
