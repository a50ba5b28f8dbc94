"""What `make run` and `make run-k8s` share: the guests, the provider, and where everything is left."""

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from rich.console import Console

from examples.hypervisors import LIBVIRT_GUESTS, Hypervisor, libvirt, sim
from tests.rigs.process import ROOT, Program, Provider

RUN = ROOT / ".run"
GUESTS = tuple(guest.name for guest in LIBVIRT_GUESTS)
MANIFESTS = ("provider", "graceful-shutdown-vm", "legacy", "deaf", "broken")
"""Files in examples/: the provider, and a VirtualMachine for each guest."""
HYPERVISORS: dict[str, Callable[[Console], AbstractContextManager[Hypervisor]]] = {"libvirt": libvirt, "sim": sim}


def set_up(description: str | None) -> tuple[Callable[[Console], AbstractContextManager[Hypervisor]], Console]:
    """Read the command line, clear `.run/`, and see to it that a SIGTERM puts everything away."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--hypervisor", choices=HYPERVISORS, default="libvirt")
    chosen = HYPERVISORS[parser.parse_args().hypervisor]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    _require_alone()
    shutil.rmtree(RUN / "controller", ignore_errors=True)
    for left in ("provider.sock", "verdicts.jsonl"):
        (RUN / left).unlink(missing_ok=True)
    (RUN / "controller").mkdir(parents=True)
    return chosen, Console(highlight=False, width=None if sys.stdout.isatty() else 110)


def _require_alone() -> None:
    """Keep `.run/` for this process, until it ends."""
    RUN.mkdir(exist_ok=True)
    handle = os.open(RUN / "lock", os.O_CREAT | os.O_RDWR)  # the system closes it at the end
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"Another `make run` or `make run-k8s` is under way in {ROOT}; wait until it ends.")


@contextlib.contextmanager
def provider(hypervisor: Hypervisor, console: Console) -> Iterator[str]:
    """The provider; the manifests name its socket as `.run/provider.sock`."""
    with Provider(hypervisor.name, *hypervisor.arguments, "--allow-guest-exec") as served:
        socket = RUN / "provider.sock"
        socket.symlink_to(served.address.removeprefix("unix://"))
        console.print(f"provider    python -m providers.{hypervisor.name} serves unix:.run/provider.sock")
        try:
            yield served.address
        finally:
            shutil.copy(served.log, RUN / "provider.log")
            socket.unlink()


@contextlib.contextmanager
def controller(program: Program, said: str, console: Console) -> Iterator[None]:
    """The controller, stopped in an orderly way at the end; its log is kept."""
    with program:
        console.print(f"controller  python -m controller {said}")
        try:
            yield
            program.stop()
        finally:
            shutil.copy(program.log, RUN / "controller.log")
