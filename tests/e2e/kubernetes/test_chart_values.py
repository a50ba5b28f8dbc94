"""Values that cannot be meant are refused, in words that name them."""

import pytest

from tests.rigs.kubernetes.chart import of_kind, render
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
    "controller.leaseDuration=15": "at '/controller/leaseDuration': got number, want string",
}
SIM = "providers[0].name=a,providers[0].type=sim"
REFUSED = {
    f"{SIM},providers[1].name=a,providers[1].type=sim": "providers[1] (a): two providers have this name",
    f"{SIM},providers[0].args={{--listen=[::]:1}}": "providers[0] (a).args: --listen=[::]:1 is set by the chart",
    f"{SIM},providers[0].pod.priorityClassName=high": "providers[0] (a).pod: in the form sidecar all share one pod",
    f"{SIM},providers[0].args={{--operator-uids=0}}": "providers[0] (a).args: --operator-uids=0 is set by the chart",
    f"{SIM},providers[0].args={{--max-connection-age=1m}}": "is set by the chart; see bindAddress",
    f"{SIM},providers[0].tls.crlConfigMap=crl": "providers[0] (a).tls: in the form sidecar there is a unix socket",
    f"{SIM},providers[0].operatorUids={{1}},pod.runAsUser=null": "operatorUids: the controller's user must be known",
    f"{SIM},form=separate,controller.tls.secret=x,providers[0].tls.secret=y,providers[0].operatorUids={{1}}": (
        "providers[0] (a).operatorUids: in the form separate certificates say who may change power"
    ),
    f"{SIM},certManager.enabled=true": "certManager.enabled: in the form sidecar there are unix sockets, and no TLS",
    "metrics.podMonitor.enabled=true": "metrics.podMonitor.enabled: there is nothing to scrape",
    "form=separate": "controller.tls.secret: in the form separate providers ask for a client certificate",
    "form=separate,controller.tls.secret=x": "providers[0] (sim).tls.secret: in the form separate it is reached over",
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


def test_more_controllers_apart_from_their_providers_are_not(cluster: Cluster) -> None:
    objects = render(cluster, "default", "ci/values-separate.yaml", "--set", "controller.replicas=3")
    assert sorted(one["spec"]["replicas"] for one in of_kind(objects, "Deployment")) == [1, 1, 3]


def test_a_cluster_that_chooses_the_user_is_let(cluster: Cluster) -> None:
    objects = render(cluster, "default", "values.yaml", "--set", "pod.runAsUser=null")
    (deployment,) = of_kind(objects, "Deployment")
    assert "runAsUser" not in deployment["spec"]["template"]["spec"]["securityContext"]
