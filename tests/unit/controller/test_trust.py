import pytest

from controller.models import Provider
from controller.trust import EVERYBODY, Trust
from tests.unit.controller.builders import provider

OPERATORS = Trust(
    "ops", frozenset({"team-a/lab=unix:///run/lab.sock", "team-a/kvm=kvm.example:9443"}), certificate=True
)
SECRET = {"secretRef": {"name": "tls"}}
OWN = {"controllerCertificate": True}
FILES = {"caFile": "ca", "certFile": "cert", "keyFile": "key"}


@pytest.mark.parametrize(
    ("of_it", "expected"),
    [
        (provider(namespace="ops"), True),
        (provider(namespace="team-a"), False),
        (provider("lab", "unix:///run/lab.sock", namespace="team-a"), True),
        (provider("lab", "unix:///run/other.sock", namespace="team-a"), False),
        (provider("lab", "evil.example:1", namespace="team-a", tls=SECRET), False),
        (provider("lab2", "unix:///run/lab.sock", namespace="team-a"), False),
        (provider("lab", "unix:///run/lab.sock", namespace="team-b"), False),
    ],
)
def test_a_provider_is_the_operators_by_its_namespace_or_by_name_and_endpoint(of_it: Provider, expected: bool) -> None:
    assert OPERATORS.covers(of_it) is expected


@pytest.mark.parametrize(
    ("of_it", "words"),
    [
        (provider(namespace="ops"), ""),
        (provider(namespace="team-a"), "unix:///run/p.sock is in the controller's own pod or host"),
        (provider(endpoint="127.0.0.1:9443", namespace="team-a"), "is in the controller's own pod or host"),
        (provider(endpoint="localhost:9443", namespace="team-a", tls=SECRET), "is in the controller's own pod or host"),
        (provider("lab", "unix:///run/lab.sock", namespace="team-a"), ""),
        (provider(endpoint="p.example:1", namespace="team-a", tls=SECRET), ""),
        (provider(endpoint="p.example:1", namespace="team-a", tls=OWN), "certificate is for Providers that it trusts"),
        (provider("kvm", "kvm.example:9443", namespace="team-a", tls=OWN), ""),
        (provider(endpoint="p.example:1", namespace="ops", tls=OWN), ""),
        (provider(endpoint="p.example:1", namespace="ops", tls=FILES), "files are for manifests in a directory"),
    ],
)
def test_who_writes_a_provider_leads_the_controller_to_nothing_of_the_operators(of_it: Provider, words: str) -> None:
    objection = OPERATORS.objection(of_it)
    assert (words in objection, bool(objection)) == (True, bool(words))


def test_a_certificate_that_the_controller_does_not_have_is_asked_of_its_operator() -> None:
    it = provider(endpoint="p.example:1", namespace="ops", tls=OWN)
    assert "its operator sets --tls-cert" in Trust("ops").objection(it)


def test_an_empty_namespace_is_nobodys() -> None:
    assert not Trust().covers(provider())


def test_who_writes_all_manifests_may_name_files_and_sockets() -> None:
    assert EVERYBODY.objection(provider(endpoint="p.example:1", tls=FILES)) == EVERYBODY.objection(provider()) == ""
