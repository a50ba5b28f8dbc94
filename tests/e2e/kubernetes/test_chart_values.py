"""Values that cannot be meant are refused, in words that name them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.rigs.kubernetes.chart import CHART, containers, of_kind, render
from tests.rigs.kubernetes.cluster import Cluster

SLIPS = {
    "controler.workers=4": "additional properties 'controler' not allowed",
    "controller.worker=4": "at '/controller': additional properties 'worker' not allowed",
    "providers[0].typ=sim": "at '/providers/0': additional properties 'typ' not allowed",
    "providers[1].name=lab": "at '/providers/1': missing property 'type'",
    "providers[0].name=lab,providers[0].type=esx": "at '/providers/0/type': value must be one of 'sim', 'libvirt'",
    "providerDefaults.state.ephemerol=true": "at '/providerDefaults/state': additional properties 'ephemerol'",
    "pod.runAsUser=0": "at '/pod/runAsUser': minimum: got 0, want 1",
    "networkPolicy.apiServer.cidrs={anywhere}": "at '/networkPolicy/apiServer/cidrs/0': 'anywhere' does not match",
    "controller.selfLast=ops": "at '/controller/selfLast': got string, want boolean",
    "controller.leaseDuration=15": "at '/controller/leaseDuration': got number, want string",
    "providers[0].name=a,providers[0].type=sim,providers[0].env[0].value=x": "/env/0': missing property 'name'",
    "form=null": "missing property 'form'",
    "form=both": "at '/form': value must be one of 'sidecar', 'separate'",
    "image.tag=sha256:12": "at '/image/tag': 'sha256:12' does not match",
    "image.repository=registry.example/vmpower:1.0": "at '/image/repository': 'registry.example/vmpower:1.0' does not",
}
SIM = "providers[0].name=a,providers[0].type=sim"
TWO = f"{SIM},providers[1].name=b,providers[1].type=sim"
SEPARATE = f"{SIM},form=separate,certManager.enabled=true"
DIGEST = f"sha256:{'ab' * 32}"
REFUSED = {
    f"{SIM},providers[1].name=a,providers[1].type=sim": "providers[1] (a): two providers have this name",
    f"{SIM},providers[0].args={{--listen=[::]:1}}": "providers[0] (a).args: --listen=[::]:1 is set by the chart",
    f"{SIM},providers[0].pod.priorityClassName=high": "providers[0] (a).pod: in the form sidecar all share one pod",
    f"{SIM},providers[0].args={{--operator-uids=0}}": "providers[0] (a).args: --operator-uids=0 is set by the chart",
    f"{SIM},providers[0].args={{--max-connection-age=1m}}": "is set by the chart; see bindAddress",
    f"{SIM},providers[0].tls.crlConfigMap=crl": "(a).tls.crlConfigMap: in the form sidecar there is a unix socket",
    f"{SIM},providers[0].tls.maxConnectionAge=1m": "tls.maxConnectionAge: in the form sidecar there is a unix socket",
    f"{SIM},providers[0].tls.secret=x": "(a).tls.secret: in the form sidecar there is a unix socket, and no TLS",
    f"{SIM},providers[0].operators={{x}}": "(a).operators: in the form sidecar there are no certificates",
    f"{SIM},providerDefaults.operators={{x}}": "providerDefaults.operators: in the form sidecar there are no",
    f"{SIM},providers[0].operatorUids={{1}},pod.runAsUser=null": "operatorUids: the controller's user must be known",
    f"{SIM},form=separate,controller.tls.secret=x,providers[0].tls.secret=y,providers[0].operatorUids={{1}}": (
        "providers[0] (a).operatorUids: in the form separate certificates say who may change power"
    ),
    f"{SIM},certManager.enabled=true": "certManager.enabled: in the form sidecar there are unix sockets, and no TLS",
    f"{SEPARATE},certManager.issuerRef.kind=ClusterIssuer": "certManager.issuerRef: it names no issuer; write",
    "certManager.issuerRef.name=x": "certManager.issuerRef: it does nothing without certManager.enabled",
    f"{SEPARATE},certManager.duration=24h": "certManager.renewBefore: 720h is not less than certManager.duration, 24h",
    f"{SEPARATE},certManager.duration=30m,certManager.renewBefore=10m": "certManager.duration: 30m is less than 1h",
    f"{SEPARATE},certManager.renewBefore=1m": "certManager.renewBefore: 1m is less than 5m",
    "controller.selfLast=true,watchNamespace=a": "controller.selfLast: it is for plans of the release's namespace",
    "controller.leaseDuration=1s": "controller.leaseDuration: 1s is less than 4s",
    "controller.leaseDuration=1h": "controller.leaseDuration: 1h is more than 5m",
    "controller.replicas=0": "controller.replicas: no controller acts on nothing; leave it null",
    "metrics.podMonitor.enabled=true": "metrics.podMonitor.enabled: it does nothing without metrics.enabled; set that",
    "metrics.rules.enabled=true": "metrics.rules.enabled: it does nothing without metrics.enabled",
    "metrics.dashboard.enabled=true": "metrics.dashboard.enabled: it does nothing without metrics.enabled",
    "metrics.from[0].podSelector.x=y": "metrics.from: it does nothing without metrics.enabled",
    "metrics.enabled=true,metrics.podMonitor.interval=5s": "interval: it does nothing without metrics.podMonitor.",
    "serviceAccount.create=false,serviceAccount.annotations.a=b": "annotations: it does nothing without serviceA",
    "crds.keep=false": "crds.keep: false does nothing without crds.install",
    "pod.labels.app\\.kubernetes\\.io/name=x": "pod.labels: app.kubernetes.io/name is set by the chart",
    "providers[0].name=controller,providers[0].type=sim": "(controller).name: the chart itself uses this name",
    "providers[0].name=test,providers[0].type=sim": "providers[0] (test).name: the chart itself uses this name",
    "providerDefaults.type=sim": "providerDefaults.type: each entry of providers has its own",
    f"{SIM},providers[0].env[0].name=VMPOWER_LISTEN": "providers[0] (a).env: VMPOWER_LISTEN is set by the chart",
    f"{SIM},providers[0].env[0].name=VMPOWER_STATE_DIR": "providers[0] (a).env: VMPOWER_STATE_DIR is set by the chart",
    f"{SIM},providers[0].credentialsSecret=x,providers[0].env[0].name=VMPOWER_CREDENTIALS_DIR": (
        "providers[0] (a).env: VMPOWER_CREDENTIALS_DIR is set by the chart"
    ),
    f"{SIM},providers[0].args={{--script=/a}},providers[0].env[0].name=VMPOWER_SCRIPT": (
        "providers[0] (a).env: VMPOWER_SCRIPT does nothing beside --script in args; write one of them"
    ),
    f"{SIM},providers[0].state.ephemeral=true,providers[0].state.existingClaim=x": (
        "providers[0] (a).state.existingClaim: it does nothing with state.ephemeral"
    ),
    f"{SIM},providers[0].state.ephemeral=true,providers[0].state.size=2Gi": "(a).state.size: it does nothing without",
    f"{SIM},providers[0].state.existingClaim=x,providers[0].state.storageClass=fast": "(a).state.storageClass: it does",
    f"{TWO},providerDefaults.state.existingClaim=x": "providers[1] (b).state.existingClaim: the journal of an",
    f"{TWO},providers[1].state.existingClaim=vmpower-a": "providers[1] (b).state.existingClaim: the journal of another",
    "form=separate": "controller.tls.secret: in the form separate providers ask for a client certificate",
    "form=separate,controller.tls.secret=x": "providers[0] (sim).tls.secret: in the form separate it is reached over",
    "watchNamespace=a,upsSecrets[0].namespace=b,upsSecrets[0].secrets={c}": "only resources in a are",
    "watchNamespace=a,guestCredentials[0].namespace=b,guestCredentials[0].secrets={c}": "only resources in a are",
}


@pytest.mark.parametrize(("setting", "words"), SLIPS.items())
def test_a_slip_of_the_pen_is_refused_by_name(cluster: Cluster, setting: str, words: str) -> None:
    with pytest.raises(RuntimeError) as refused:
        render(cluster, "default", "values.yaml", "--set", setting)
    assert words in str(refused.value)


@pytest.mark.parametrize(("setting", "words"), REFUSED.items())
def test_what_does_not_go_together_is_refused_in_a_sentence(cluster: Cluster, setting: str, words: str) -> None:
    with pytest.raises(RuntimeError) as refused:
        render(cluster, "default", "values.yaml", "--set", setting)
    assert words in str(refused.value)


@pytest.mark.parametrize("values", ["values.yaml", "ci/values-sidecar.yaml"])
def test_a_second_pod_of_sidecars_is_refused_in_a_sentence(cluster: Cluster, values: str) -> None:
    with pytest.raises(RuntimeError, match=r"controller\.replicas: in the form sidecar there is one pod"):
        render(cluster, "default", values, "--set", "controller.replicas=2")


def test_what_most_providers_have_of_a_volume_is_not_asked_of_one_without(cluster: Cluster) -> None:
    values = f"{TWO},providerDefaults.state.storageClass=fast,providerDefaults.state.size=2Gi"
    objects = render(cluster, "default", "values.yaml", "--set", f"{values},providers[0].state.ephemeral=true")
    (claim,) = of_kind(objects, "PersistentVolumeClaim")
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Gi"


def test_more_controllers_apart_from_their_providers_are_not(cluster: Cluster) -> None:
    objects = render(cluster, "default", "ci/values-separate.yaml", "--set", "controller.replicas=3")
    assert sorted(one["spec"]["replicas"] for one in of_kind(objects, "Deployment")) == [1, 1, 3]


def test_plans_of_the_releases_namespace_may_bring_the_nodes_down_where_that_is_set(cluster: Cluster) -> None:
    flags = [
        argument
        for settings in ("controller.selfLast=false", "controller.selfLast=true")
        for each in containers(render(cluster, "ops", "values.yaml", "--set", settings))
        for argument in each.get("args", ())
        if argument.startswith("--self-namespace")
    ]
    assert flags == ["--self-namespace=ops"]


def test_a_cluster_that_chooses_the_user_is_let(cluster: Cluster) -> None:
    objects = render(cluster, "default", "values.yaml", "--set", "pod.runAsUser=null")
    (deployment,) = of_kind(objects, "Deployment")
    assert "runAsUser" not in deployment["spec"]["template"]["spec"]["securityContext"]


@pytest.mark.parametrize(
    ("tag", "image"),
    [
        ("1.2.3", "vmpower:1.2.3"),
        (DIGEST, f"vmpower@{DIGEST}"),
        (f"1.2.3@{DIGEST}", f"vmpower:1.2.3@{DIGEST}"),
    ],
)
def test_an_image_may_be_named_by_its_digest(cluster: Cluster, tag: str, image: str) -> None:
    objects = render(cluster, "default", "values.yaml", "--set-string", f"image.tag={tag}")
    assert {one["image"] for one in containers(objects)} == {image}


def test_a_value_that_a_null_would_take_away_is_asked_for() -> None:
    """Helm takes a null as if the value were not there, and a template takes that for false."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    optional = {
        *(f"{part}.resources.{each}" for part in ("controller", "providerDefaults") for each in ("limits", "requests")),
        *(f"pod.{each}" for each in ("fsGroup", "runAsGroup", "runAsUser")),
    }
    assert set(_unasked(schema, schema, defaults)) == optional


def _unasked(root: dict[str, Any], schema: dict[str, Any], defaults: dict[str, Any], at: str = "") -> Iterator[str]:
    """The defaults, none of which is null, that the schema lets be absent."""
    parts = list(_parts(root, schema))
    required = {name for part in parts for name in part.get("required", ())}
    for name, default in defaults.items():
        if default is not None and name not in required:
            yield at + name
        if isinstance(default, dict) and default:
            within = {"allOf": [part["properties"][name] for part in parts if name in part.get("properties", {})]}
            if any("properties" in part for part in _parts(root, within)):
                yield from _unasked(root, within, default, f"{at}{name}.")


def _parts(root: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema with all that it refers to."""
    yield schema
    if reference := schema.get("$ref"):
        yield from _parts(root, root["definitions"][reference.rpartition("/")[2]])
    for each in schema.get("allOf", ()):
        yield from _parts(root, each)


def test_no_name_of_a_provider_makes_an_object_twice(cluster: Cluster) -> None:
    """Whatever the chart makes for itself: a provider of that name is refused, or what it makes has another name."""
    features = [f"metrics.{each}enabled=true" for each in ("", "podMonitor.", "rules.", "dashboard.")]
    everything = ",".join([SEPARATE, "crds.install=true", "roles.aggregate=true", "policy.enabled=true", *features])
    names = {one["metadata"]["name"] for one in render(cluster, "default", "values.yaml", "--set", everything)}
    for name in sorted(name.removeprefix("vmpower-") for name in names if name.startswith("vmpower-")):
        try:
            objects = render(cluster, "default", "values.yaml", "--set", everything.replace("name=a", f"name={name}"))
        except RuntimeError as refused:
            assert "the chart itself uses this name" in str(refused)
            continue
        made = [(one["kind"], one["metadata"]["name"]) for one in objects]
        assert len(set(made)) == len(made), name
