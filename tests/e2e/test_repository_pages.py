"""The commands of docs/conformance.md and docs/benchmarks.md, typed: the suite on sims that it did not start,
one with mutual TLS, and a bench."""

import os
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.rigs.cache import cache as cached
from tests.rigs.debian.package import copy_tree
from tests.rigs.page import Result, placed, require_shown, type_all
from tests.rigs.pages import typed
from tests.rigs.ports import free_port
from tests.rigs.process import ROOT, Program, Provider
from tests.unit.providers.server.pki import Authority

CONFORMANCE, BENCHMARKS = typed("docs/conformance.md"), typed("docs/benchmarks.md")
TARGETS = ROOT / "tests" / "conformance" / "targets"
ROLES = "{vms: {deaf: deaf, spare: spare}, scale: 0.2, patience_seconds: 20}"
"""Two of the roles: the whole suite runs on each rig by itself."""

pytestmark = pytest.mark.timeout(600)


def environment() -> dict[str, str]:
    """A shell's in which no test runs yet, with the tree's Python."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return own | {"PATH": f"{Path(sys.executable).parent}:{own['PATH']}", "VMPOWER_CACHE": str(cached())}


def with_tls(folder: Path) -> tuple[str, list[str]]:
    """An address, and what tells a provider to listen there; `folder` has the client's files, too."""
    authority, port = Authority(), free_port()
    server, client = authority.issue("localhost", dns=["localhost"]), authority.issue("me")
    files = {"ca.pem": authority.pem, "me.pem": client.cert, "me.key": client.key}
    for name, content in (files | {"server.pem": server.cert, "server.key": server.key}).items():
        (folder / name).write_bytes(content)
    tls = [f"--tls-client-ca={folder}/ca.pem", f"--tls-cert={folder}/server.pem", f"--tls-key={folder}/server.key"]
    return f"localhost:{port}", ["--listen", f"127.0.0.1:{port}", "--operators", "cn:me", *tls]


@cache
def conformance() -> list[Result]:
    """What the suite printed."""
    script = f"--script={TARGETS}/sim-guests.yaml"
    with Provider("sim", script) as provider:
        folder = provider.folder
        address, flags = with_tls(folder)
        (folder / "my-vms.yaml").write_text(ROLES)
        files = {name: f"{folder}/{name}" for name in ("my-vms.yaml", "ca.pem", "me.pem", "me.key")}
        places = files | {"unix:///run/vmpower/libvirt.sock": provider.address, "10.0.0.5:9443": address}
        with Program("providers.sim", script, *flags, "--state-dir", str(folder / "other")) as other:
            other.wait_output('"serving"')
            return type_all(placed(CONFORMANCE, places), ROOT, environment())


@pytest.mark.parametrize("number", range(len(CONFORMANCE)))
def test_a_run_of_the_suite_passes(number: int) -> None:
    result = conformance()[number]
    require_shown(CONFORMANCE, number, result)
    assert " passed" in result.printed


def test_a_bench_prints_and_writes_its_table(tmp_path: Path) -> None:
    (bench,) = BENCHMARKS
    (ran,) = type_all([bench], copy_tree(tmp_path / "vmpower"), environment())
    assert ran.status == 0, ran.printed
    assert "journal: " in ran.printed
    assert (tmp_path / "vmpower" / ".run" / "bench" / "journal.json").exists()
