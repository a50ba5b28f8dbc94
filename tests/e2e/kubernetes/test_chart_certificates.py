"""Certificates by cert-manager: those that the programs read, by one authority, with the names that are asked for."""

from typing import Any

import pytest

from tests.rigs.kubernetes.chart import Object, containers, of_kind, pods, render
from tests.rigs.kubernetes.cluster import Cluster

LAB = "form=separate,providers[0].name=lab,providers[0].type=sim"
ON = f"{LAB},certManager.enabled=true"
NAMES = {
    "vmpower-controller": {"commonName": "vmpower-controller"},
    "cn:boss": {"commonName": "boss"},
    "dns:boss.example": {"dnsNames": ["boss.example"]},
    "spiffe://example/boss": {"uris": ["spiffe://example/boss"]},
    "uri:spiffe://example/boss": {"uris": ["spiffe://example/boss"]},
}


def rendered(cluster: Cluster, *settings: str) -> list[Object]:
    return render(cluster, "default", "values.yaml", "--set", ",".join(settings))


def certificates(objects: list[Object]) -> dict[str, Any]:
    """Those that are issued, by the Secret that each is written to."""
    return {one["spec"]["secretName"]: one["spec"] for one in of_kind(objects, "Certificate")}


def mounted(objects: list[Object]) -> dict[str, str]:
    """By container, the Secret that it reads its certificate from."""
    found = {}
    for pod in pods(objects):
        secrets = {
            volume["name"]: volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume
        }
        for container in pod["spec"]["containers"]:
            (mount,) = (one for one in container["volumeMounts"] if one["mountPath"] == "/etc/vmpower/tls")
            found[container["name"]] = secrets[mount["name"]]
    return found


def test_without_it_none_is_asked_for(cluster: Cluster) -> None:
    named = "controller.tls.secret=client,providerDefaults.tls.secret=server"
    assert of_kind(rendered(cluster, LAB, named), "Certificate", "Issuer") == []


def test_each_program_reads_one_that_is_issued(cluster: Cluster) -> None:
    objects = rendered(cluster, ON)
    assert set(mounted(objects)) == {one["name"] for one in containers(objects)}
    assert set(mounted(objects).values()) < certificates(objects).keys()


def test_a_providers_has_the_name_by_which_the_controller_calls_it(cluster: Cluster) -> None:
    objects = rendered(cluster, ON)
    (provider,) = of_kind(objects, "Provider")
    asked = certificates(objects)[mounted(objects)["provider-lab"]]
    assert asked["dnsNames"] == [provider["spec"]["runtime"]["endpoint"].partition(":")[0]]
    assert asked["usages"] == ["digital signature", "server auth"]


@pytest.mark.parametrize(("name", "subject"), NAMES.items(), ids=NAMES)
def test_the_controllers_has_the_name_that_providers_let_change_power(
    cluster: Cluster, name: str, subject: dict[str, Any]
) -> None:
    objects = rendered(cluster, ON, f"controller.tls.name={name}")
    asked = certificates(objects)[mounted(objects)["controller"]]
    assert {key: asked[key] for key in ("commonName", "dnsNames", "uris") if key in asked} == subject
    assert asked["usages"] == ["digital signature", "client auth"]


def test_all_are_signed_by_one_authority_of_the_releases_own(cluster: Cluster) -> None:
    objects = rendered(cluster, ON)
    issuers = {one["metadata"]["name"]: one["spec"] for one in of_kind(objects, "Issuer")}
    signed = {certificates(objects)[secret]["issuerRef"]["name"] for secret in mounted(objects).values()}
    (authority,) = signed
    root = certificates(objects)[issuers[authority]["ca"]["secretName"]]
    assert root["isCA"]
    assert issuers[root["issuerRef"]["name"]] == {"selfSigned": {}}


def test_an_issuer_that_there_is_already_may_sign_them(cluster: Cluster) -> None:
    objects = rendered(cluster, ON, "certManager.issuerRef.name=internal,certManager.issuerRef.kind=ClusterIssuer")
    asked = [one["issuerRef"] for one in certificates(objects).values()]
    assert asked == [{"name": "internal", "kind": "ClusterIssuer"}] * 2
    assert of_kind(objects, "Issuer") == []


def test_a_secret_that_is_named_is_left_to_who_named_it(cluster: Cluster) -> None:
    objects = rendered(cluster, ON, "providers[0].tls.secret=own")
    assert mounted(objects)["provider-lab"] == "own"
    assert "own" not in certificates(objects)
