"""Who the cluster and the provider are to each other: what is wrong at the start is told, and served when mended."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.served import duration, ending, logins, until_health, wait_for
from tests.rigs.calls import calls
from tests.rigs.process import Program, Provider
from tests.rigs.proxmox.cluster import Cluster
from tests.rigs.proxmox.provider import flags


@contextmanager
def unserved(cluster: Cluster, sentence: str, *trust: str) -> Iterator[str]:
    """The address of a provider that does not serve, and says in its log why."""
    with launched(cluster, *trust) as program:
        program.wait_output(sentence)
        until_health(program.address, False)
        yield program.address


@contextmanager
def launched(cluster: Cluster, *trust: str) -> Iterator[Provider]:
    """A provider that may not serve yet. Of a flag that comes twice, the last counts."""
    chosen = [flag for flag in flags(cluster) if not (trust and flag.startswith("--ca-file"))]
    program = Provider("proxmox", *chosen, *trust)
    try:
        Program.start(program)
        yield program
    finally:
        program.close()


def test_a_login_that_is_wrong_at_the_start_is_told_and_served_with_when_it_is_mended() -> None:
    with Cluster({"web": {}}) as cluster:
        secret = cluster.token_dir / "token-secret"
        right = secret.read_text()
        secret.write_text("5b4e3c11-4d0a-4d5e-8f2f-2f9a90b7a1c6")
        with unserved(cluster, "refuses the login of vmpower@pve!provider") as address:
            secret.write_text(right)
            until_health(address, True)


def test_a_password_that_is_wrong_is_tried_once() -> None:
    with Cluster({"web": {}}) as cluster:
        password = cluster.credentials / "password"
        right = password.read_text()
        password.write_text("wrong")
        login = f"--credentials-dir={cluster.credentials}"
        with unserved(cluster, "refuses the login of vmpower@pve;", f"--ca-file={cluster.ca}", login) as address:
            wait_for(time.time() + 5)
            assert logins(cluster) == 1
            password.write_text(right)
            until_health(address, True)


def test_a_ca_that_is_wrong_at_the_start_is_told_and_served_with_when_it_is_mended(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca))
    with (
        Cluster({"web": {}}) as cluster,
        unserved(cluster, "certificate does not verify", f"--ca-file={ca}") as address,
    ):
        ca.write_bytes(cluster.ca.read_bytes())
        until_health(address, True)


def test_a_certificate_with_another_fingerprint_is_told_and_asked_for_nothing() -> None:
    with Cluster({"web": {}}) as cluster:
        sentence = "another fingerprint than --fingerprint says"
        with unserved(cluster, sentence, f"--fingerprint={'ab' * 32}"):
            assert cluster.requests() == []


def test_fingerprints_of_all_nodes_are_as_good_as_a_ca() -> None:
    with Cluster({"web": {}}) as cluster, launched(cluster, f"--fingerprint={','.join(cluster.fingerprints)}") as it:
        until_health(it.address, True)
        cluster.endpoint_down(0)
        with calls(it.address) as client:
            request = pb.ShutdownRequest(vm="web", timeout=duration(60))
            assert ending(client.end(client.stub.Shutdown(request))) == "GRACEFUL"
