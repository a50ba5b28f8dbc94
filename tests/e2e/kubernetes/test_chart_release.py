"""The chart as a release: what its controller may do, other forms, and what an uninstall leaves."""

from collections.abc import Callable, Iterator

import pytest

from tests.rigs.kubernetes.chart import CHART
from tests.rigs.kubernetes.cluster import Cluster

Install = Callable[..., str]
May = Callable[..., bool]

SEPARATE = ("--set", "form=separate,controller.tls.secret=client,providerDefaults.tls.secret=server")
WORK = (
    ("list", "virtualmachines"),
    ("watch", "virtualmachines"),
    ("patch", "virtualmachines"),
    ("patch", "virtualmachines", "status"),
    ("list", "providers"),
    ("watch", "providers"),
    ("patch", "providers"),
    ("patch", "providers", "status"),
    ("list", "powerplans"),
    ("watch", "powerplans"),
    ("list", "powerruns"),
    ("watch", "powerruns"),
    ("create", "powerruns"),
    ("delete", "powerruns"),
    ("patch", "powerruns", "status"),
    ("create", "events"),
)
NOT_ITS_WORK = (
    ("create", "virtualmachines"),
    ("delete", "virtualmachines"),
    ("create", "powerplans"),
    ("patch", "powerplans"),
    ("patch", "powerruns"),
    ("update", "powerruns"),
    ("list", "nodes"),
    ("list", "secrets"),
    ("get", "secrets/web"),
    ("create", "pods"),
    ("list", "events"),
    ("delete", "leases"),
)


@pytest.fixture
def install(cluster: Cluster, namespace: str) -> Iterator[Install]:
    """Installs the release of this test's namespace, or makes it what these values say. It is gone at the end."""

    def install(*args: str) -> str:
        return cluster.helm("upgrade", "--install", "vmpower", str(CHART), "--namespace", namespace, *args)

    yield install
    cluster.helm("uninstall", "vmpower", "--namespace", namespace)


@pytest.fixture
def may(cluster: Cluster, namespace: str) -> May:
    """Whether the API would let the controller do this."""
    controller = f"--as=system:serviceaccount:{namespace}:vmpower"

    def may(verb: str, what: str, subresource: str = "", where: str = namespace) -> bool:
        place = (f"--subresource={subresource}", "--namespace", where)
        return cluster.try_kubectl("auth", "can-i", verb, what, controller, *place).stdout.strip() == "yes"

    return may


@pytest.fixture
def claim(cluster: Cluster, namespace: str) -> Callable[[], str]:
    """The uid of the claim that has the sim's journal, and when it was told to go: a finalizer outlives that here."""
    told = "jsonpath={.metadata.uid} {.metadata.deletionTimestamp}"
    return lambda: cluster.kubectl("get", "pvc", "vmpower-sim", "-n", namespace, "-o", told)


def test_the_controller_may_do_its_work_in_all_namespaces(install: Install, may: May) -> None:
    install()
    assert [asked for asked in WORK if not may(*asked, where="default")] == []


def test_the_controller_may_do_nothing_else(install: Install, may: May) -> None:
    install()
    assert [asked for asked in NOT_ITS_WORK if may(*asked)] == []


def test_with_a_namespace_to_watch_the_controller_may_do_its_work_there(install: Install, may: May) -> None:
    install("--set", "watchNamespace=default")
    assert [asked for asked in WORK if not may(*asked, where="default")] == []


def test_with_a_namespace_to_watch_the_controller_may_do_nothing_elsewhere(install: Install, may: May) -> None:
    install("--set", "watchNamespace=default")
    assert [asked for asked in WORK if may(*asked)] == []


def test_the_lease_is_its_own_alone(install: Install, may: May) -> None:
    install()
    of_lease = {name: may("update", f"leases.coordination.k8s.io/{name}") for name in ("vmpower", "other")}
    assert of_lease == {"vmpower": True, "other": False}


def test_secrets_are_read_where_they_are_named_alone(install: Install, may: May) -> None:
    install("--set", "guestCredentials[0].namespace=default,guestCredentials[0].secrets={web}")
    assert may("get", "secrets/web", where="default")
    assert not may("get", "secrets/db", where="default")
    assert not may("get", "secrets/web")


def test_a_release_changes_its_form_and_back(install: Install) -> None:
    install()
    install(*SEPARATE)
    assert "STATUS: deployed" in install()


def test_the_journal_stays_the_same_when_the_form_changes(install: Install, claim: Callable[[], str]) -> None:
    install()
    before = claim()
    install(*SEPARATE)
    assert claim() == before


def test_an_uninstall_leaves_the_journal_to_the_next_install(
    cluster: Cluster, namespace: str, install: Install, claim: Callable[[], str]
) -> None:
    install()
    before = claim()
    cluster.helm("uninstall", "vmpower", "--namespace", namespace)
    install()
    assert claim() == before


def test_the_notes_tell_of_a_provider_that_reaches_no_hypervisor(install: Install) -> None:
    notes = install("--set", "providers[0].name=kvm,providers[0].type=libvirt")
    assert "kvm: providers[].egress names nothing" in notes


@pytest.mark.parametrize("kind", ["vsphere", "proxmox"])
def test_the_notes_tell_of_a_provider_without_a_login(install: Install, kind: str) -> None:
    notes = install("--set", f"providers[0].name=hypervisor,providers[0].type={kind}")
    assert "hypervisor: providers[].credentialsSecret names nothing" in notes
