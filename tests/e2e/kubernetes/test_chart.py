"""What the Helm chart renders, as the API and our own programs take it."""

import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.config import Settings as ControllerSettings
from controller.models import Provider
from providers.libvirt.config import LibvirtSettings
from providers.proxmox.config import ProxmoxSettings
from providers.sim.config import SimSettings
from providers.vsphere.config import VsphereSettings
from tests.rigs.kubernetes.chart import CHART, VALUES, Object, containers, of_kind, pods, render, selects
from tests.rigs.kubernetes.cluster import CRDS, Cluster
from tests.rigs.process import ROOT

PROGRAMS: dict[str, Any] = {
    "controller": ControllerSettings,
    "providers.sim": SimSettings,
    "providers.libvirt": LibvirtSettings,
    "providers.vsphere": VsphereSettings,
    "providers.proxmox": ProxmoxSettings,
}
MOUNTED = "/etc/vmpower"
Pod = Callable[[Object], Any]
"""Returns the settings that a container's program reads."""


@pytest.fixture(params=VALUES)
def values(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def objects(cluster: Cluster, namespace: str, values: str) -> list[Object]:
    return render(cluster, namespace, values)


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    """Where a container's program is started: what it is told, where files that are mounted are in a folder here."""
    (tmp_path / "credentials").mkdir()

    def here(text: str) -> str:
        return text.replace(MOUNTED, str(tmp_path))

    def start(container: Object) -> Any:
        module = container["command"][2]
        with monkeypatch.context() as environment:
            for variable in container.get("env", []):
                environment.setenv(variable["name"], here(variable.get("value", "")))
            return PROGRAMS[module].load(module, [here(arg) for arg in container["args"]])

    return start


@pytest.fixture
def restricted(cluster: Cluster, namespace: str, objects: list[Object]) -> str:
    """A namespace that admits restricted pods only, and the others that the objects are for."""
    levels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
    cluster.kubectl("label", "namespace", namespace, *levels)
    for other in {one["metadata"].get("namespace", namespace) for one in objects} - {namespace}:
        cluster.kubectl("apply", "-f", "-", input=f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {other}}}}}")
    return namespace


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def flag(container: Object, name: str) -> str:
    (value,) = (arg.partition("=")[2] for arg in container["args"] if arg.startswith(f"--{name}="))
    return str(value)


def named(text: str) -> Object:
    return {one["metadata"]["name"]: one for one in yaml.safe_load_all(text) if one}


def mount(container: Object, volume: str) -> Object:
    (found,) = (one for one in container["volumeMounts"] if one["name"] == volume)
    return dict(found)


def target(provider: Object) -> str:
    return Provider.model_validate(provider).spec.runtime.endpoint or ""


@pytest.mark.usefixtures("restricted", "third_party_crds")
def test_the_api_accepts_it_without_a_warning(cluster: Cluster, objects: list[Object]) -> None:
    done = cluster.try_kubectl("apply", "--dry-run=server", "-f", "-", input=yaml.safe_dump_all(objects))
    assert (done.returncode, done.stderr) == (0, "")


def test_helm_finds_nothing_to_warn_of(cluster: Cluster, values: str) -> None:
    assert "0 chart(s) failed" in cluster.helm("lint", "--strict", str(CHART), "--values", str(CHART / values))


@pytest.mark.usefixtures("restricted")
def test_its_pods_are_admitted_where_only_restricted_ones_are(cluster: Cluster, objects: list[Object]) -> None:
    made = cluster.kubectl("create", "--dry-run=server", "-f", "-", input=yaml.safe_dump_all(pods(objects)))
    assert made.count("created (server dry run)") == len(of_kind(objects, "Deployment"))


def test_where_only_restricted_pods_are_admitted_no_other_one_is(
    cluster: Cluster, restricted: str, objects: list[Object]
) -> None:
    pod = pods(objects)[0]
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    done = cluster.try_kubectl("create", "--dry-run=server", "-n", restricted, "-f", "-", input=yaml.safe_dump(pod))
    assert 'violates PodSecurity "restricted' in done.stderr


def test_each_program_accepts_its_flags(objects: list[Object], pod: Pod) -> None:
    for container in containers(objects):
        assert pod(container)


def test_a_vcenters_provider_finds_its_logins_where_they_are_mounted(
    cluster: Cluster, namespace: str, pod: Pod, tmp_path: Path
) -> None:
    objects = render(cluster, namespace, "ci/values-sidecar.yaml")
    (container,) = (one for one in containers(objects) if one["name"] == "provider-vcenter")
    settings = pod(container)
    folders = {"credentials": settings.credentials_dir, "guests": settings.guest_credentials_dir}
    assert folders == {name: tmp_path / name for name in folders}
    mounted = {one["mountPath"] for one in container["volumeMounts"]}
    assert {f"{MOUNTED}/{name}" for name in folders} < mounted


def test_each_container_is_probed_where_it_tells_its_health(objects: list[Object]) -> None:
    for container in containers(objects):
        probed = {container[probe]["grpc"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
        assert probed == {port_of(flag(container, "health-listen"))}


def test_beside_the_controller_a_provider_is_found_at_its_socket(cluster: Cluster, namespace: str) -> None:
    objects = render(cluster, namespace, "ci/values-sidecar.yaml")
    listening = [flag(one, "listen") for one in containers(objects) if one["name"] != "controller"]
    assert [target(one) for one in of_kind(objects, "Provider")] == listening


def test_a_socket_lies_in_the_volume_that_the_controller_sees(cluster: Cluster, namespace: str) -> None:
    controller, *providers = containers(render(cluster, namespace, "ci/values-sidecar.yaml"))
    for provider in providers:
        where, at_the_controller = mount(provider, "sockets"), mount(controller, "sockets")["mountPath"]
        assert where["mountPath"] == f"{at_the_controller}/{where['subPath']}"
        assert flag(provider, "listen").startswith(f"unix://{where['mountPath']}/")


def test_apart_from_it_a_provider_is_found_through_its_service(cluster: Cluster, namespace: str) -> None:
    objects = render(cluster, namespace, "ci/values-separate.yaml")
    services = {f"{one['metadata']['name']}.{namespace}.svc": one["spec"] for one in of_kind(objects, "Service")}
    for one in of_kind(objects, "Provider"):
        host, _, port = target(one).partition(":")
        (pod,) = (pod for pod in pods(objects) if selects({"matchLabels": services[host]["selector"]}, pod))
        (container,) = pod["spec"]["containers"]
        assert container["name"] == f"provider-{one['metadata']['name']}"
        assert (services[host]["ports"][0]["port"], port_of(flag(container, "listen"))) == (int(port), int(port))


def test_apart_from_it_a_provider_is_reached_with_certificates_that_are_mounted(
    cluster: Cluster, namespace: str
) -> None:
    objects = render(cluster, namespace, "ci/values-separate.yaml")
    (controller,) = (one for one in containers(objects) if one["name"] == "controller")
    for one in of_kind(objects, "Provider"):
        tls = Provider.model_validate(one).spec.runtime.tls
        assert tls is not None
        assert tls.controller_certificate
    folders = {str(Path(flag(controller, f"tls-{part}")).parent) for part in ("ca", "cert", "key")}
    assert folders == {mount(controller, "tls")["mountPath"]}


def test_the_controller_trusts_the_charts_providers_at_their_endpoints(objects: list[Object], pod: Pod) -> None:
    (controller,) = (one for one in containers(objects) if one["name"] == "controller")
    trust = pod(controller).trust
    for one in of_kind(objects, "Provider"):
        provider = Provider.model_validate(one)
        elsewhere = provider.model_validate(
            one | {"spec": one["spec"] | {"runtime": {"endpoint": "unix:///run/other"}}}
        )
        assert trust.objection(provider) == ""
        assert trust.covers(provider)
        if provider.metadata.namespace != trust.namespace:
            assert trust.objection(elsewhere)


def test_a_provider_serves_other_namespaces_as_the_values_say(cluster: Cluster, namespace: str) -> None:
    rule = "providers[0].access[0].namespaces.names={team-a},providers[0].access[0].allow={power}"
    name = "providers[0].name=lab,providers[0].type=sim"
    (one,) = of_kind(render(cluster, namespace, "values.yaml", "--set", f"{name},{rule}"), "Provider")
    (access,) = Provider.model_validate(one).spec.access
    assert (access.namespaces.names, access.vms, access.allow) == (("team-a",), None, ("power",))


def test_apart_from_it_a_provider_lets_the_controller_change_power(cluster: Cluster, namespace: str) -> None:
    objects = render(cluster, namespace, "ci/values-separate.yaml", "--set", "controller.tls.name=boss")
    operators = [flag(one, "operators") for one in containers(objects) if one["name"] != "controller"]
    assert operators == ["boss,alice", "boss"]


def test_what_a_clients_authority_has_revoked_is_read_where_it_is_mounted(cluster: Cluster, namespace: str) -> None:
    objects = render(cluster, namespace, "ci/values-separate.yaml")
    (container,) = (one for one in containers(objects) if one["name"] == "provider-kvm1")
    file = Path(flag(container, "tls-client-crl"))
    assert str(file.parent) == mount(container, "crl-kvm1")["mountPath"]
    (pod,) = (one for one in pods(objects) if container in one["spec"]["containers"])
    assert {"name": "crl-kvm1", "configMap": {"name": "clients-revoked"}} in pod["spec"]["volumes"]


def test_a_provider_is_told_how_long_connections_last(cluster: Cluster, namespace: str, pod: Pod) -> None:
    objects = render(cluster, namespace, "ci/values-separate.yaml")
    (container,) = (one for one in containers(objects) if one["name"] == "provider-kvm1")
    assert pod(container).max_connection_age == timedelta(minutes=15)


def test_beside_the_controller_users_are_named_and_it_is_one_of_them(
    cluster: Cluster, namespace: str, pod: Pod
) -> None:
    objects = render(cluster, namespace, "values.yaml", "--set", "providerDefaults.operatorUids={1000}")
    (container,) = (one for one in containers(objects) if one["name"] == "provider-sim")
    (runs,) = pods(objects)
    assert pod(container).operator_uids == (runs["spec"]["securityContext"]["runAsUser"], 1000)


def test_each_port_of_a_pod_is_let_in_and_no_other(objects: list[Object]) -> None:
    for pod in pods(objects):
        opened = {port["containerPort"] for one in pod["spec"]["containers"] for port in one["ports"]}
        (policy,) = (one for one in of_kind(objects, "NetworkPolicy") if selects(one["spec"]["podSelector"], pod))
        assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == opened


def test_each_pod_may_be_drained_one_at_a_time(objects: list[Object]) -> None:
    for pod in pods(objects):
        (budget,) = (one for one in of_kind(objects, "PodDisruptionBudget") if selects(one["spec"]["selector"], pod))
        assert budget["spec"]["maxUnavailable"] == 1


def test_only_the_controllers_container_has_a_token(objects: list[Object]) -> None:
    holders = [
        one["name"] for one in containers(objects) if "kube-api" in [mount["name"] for mount in one["volumeMounts"]]
    ]
    assert holders == ["controller"]
    assert not any(pod["spec"]["automountServiceAccountToken"] for pod in pods(objects))


def test_it_brings_the_crds_as_they_are(cluster: Cluster) -> None:
    ours = [file.read_text() for file in CRDS.glob("*.yaml")]
    assert named(cluster.helm("show", "crds", str(CHART))) == named("\n---\n".join(ours))


def test_it_is_of_the_same_version_as_the_programs() -> None:
    program = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == program
