"""README.md's commands: `make run` in a clone, and a provider with a controller as the page starts them."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.cache import cache
from tests.rigs.calls import calls
from tests.rigs.controller import PROVIDER
from tests.rigs.debian.package import copy_tree
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd
from tests.rigs.page import placed, type_all
from tests.rigs.pages import typed
from tests.rigs.process import ROOT
from tests.rigs.serving import end, start

QUICK, *SERVERS = typed("README.md")
ROW = re.compile(r"^ (\w+) +([A-Z]+ .*?) +[\d.]+ s  ", re.MULTILINE)
"""A verdict up to how long it took."""
VM = """
apiVersion: infra.virtrigaud.io/v1beta1
kind: VirtualMachine
metadata: {name: web}
spec: {providerRef: {name: lab}, powerState: OffGraceful}
"""

pytestmark = pytest.mark.timeout(300)


def test_make_run_ends_with_the_verdicts_that_the_page_shows(tmp_path: Path) -> None:
    clone, environment = copy_tree(tmp_path / "vmpower"), os.environ | {"VMPOWER_CACHE": str(cache())}
    (ran,) = type_all([QUICK], clone, environment)
    assert ran.status == 0, ran.printed
    shown = ROW.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(shown) == 4
    assert [(vm, verdict.split()) for vm, verdict in ROW.findall(ran.printed)] == [
        (vm, verdict.split()) for vm, verdict in shown
    ]


def test_the_programs_of_the_page_serve_and_keep_a_vm_as_its_manifest_says(rig: Libvirtd) -> None:
    rig.define(Guest("web"), start=True)
    rig.wait_ready("web")
    with TemporaryDirectory(prefix="vmp-") as folder, started(Path(folder), rig) as address, calls(address) as client:
        client.wait_vm("web", lambda vm: vm.power_state == pb.POWER_STATE_OFF)
        assert "guest web: agent asked for shutdown" in rig.console("web")


@pytest.fixture
def rig() -> Iterator[Libvirtd]:
    with Libvirtd() as rig:
        yield rig


@contextmanager
def started(folder: Path, rig: Libvirtd) -> Iterator[str]:
    """The page's two programs, with a manifest; the provider's address."""
    address, state = f"unix://{folder}/run/libvirt.sock", folder / "state"
    there = {"/run/vmpower": folder / "run", "/etc/vmpower": folder / "etc", "/var/lib/vmpower": state}
    for made in there.values():
        made.mkdir()
    (folder / "etc" / "lab.yaml").write_text(PROVIDER.format(address=address))
    (folder / "etc" / "web.yaml").write_text(VM)
    places = {name: str(here) for name, here in there.items()} | {"qemu:///system": f"'{rig.uri}'"}
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(state),
    }
    with ExitStack() as stack:
        for number, program in enumerate(placed(SERVERS, places)):
            process = start(folder / f"{number}.log", program.command, environment)
            stack.callback(process.wait)
            stack.callback(end, process.pid)
        yield address
