"""`make run`: four guests boot, four manifests ask for OffGraceful, four verdicts tell how each went down.

Everything is real: guests of a libvirtd of our own (or of the sim, with `--hypervisor sim`), the provider on a
unix socket, the controller on this directory. What it leaves is in `.run/`; nothing keeps running.
"""

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from examples.hypervisors import Hypervisor, libvirt, sim
from examples.report import report
from examples.story import follow_shutdowns, tell_forecast
from tests.rigs.process import Program, Provider

ROOT = Path(__file__).parents[1]
RUN = ROOT / ".run"
GUESTS = ("web", "legacy", "deaf", "broken")
HYPERVISORS = {"libvirt": libvirt, "sim": sim}


def main() -> None:
    """Show it all; exit with 1 if a guest got no verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hypervisor", choices=HYPERVISORS, default="libvirt")
    chosen = HYPERVISORS[parser.parse_args().hypervisor]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that everything is put away
    _clear()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    with chosen(console) as hypervisor, _provider(hypervisor, console) as address:
        hypervisor.boot(GUESTS)
        tell_forecast(address, GUESTS, console)
        with _controller(console):
            asyncio.run(follow_shutdowns(address, RUN / "controller", GUESTS, console))
        consoles = {name: hypervisor.console(name) for name in GUESTS}
    sys.exit(report(RUN, GUESTS, consoles, console))


def _clear() -> None:
    shutil.rmtree(RUN / "controller", ignore_errors=True)
    for left in ("provider.sock", "verdicts.jsonl"):
        (RUN / left).unlink(missing_ok=True)
    (RUN / "controller").mkdir(parents=True)


@contextlib.contextmanager
def _provider(hypervisor: Hypervisor, console: Console) -> Iterator[str]:
    """The provider; the manifests name its socket as `.run/provider.sock`."""
    with Provider(hypervisor.name, *hypervisor.arguments, "--allow-guest-exec") as provider:
        socket = RUN / "provider.sock"
        socket.symlink_to(provider.address.removeprefix("unix://"))
        console.print(f"provider    python -m providers.{hypervisor.name} serves unix:.run/provider.sock")
        try:
            yield provider.address
        finally:
            shutil.copy(provider.log, RUN / "provider.log")
            socket.unlink()


@contextlib.contextmanager
def _controller(console: Console) -> Iterator[None]:
    with Program("controller", "--manifests", "examples", "--state-dir", ".run/controller") as controller:
        console.print("controller  python -m controller --manifests examples")
        try:
            yield
            controller.stop()
        finally:
            shutil.copy(controller.log, RUN / "controller.log")


if __name__ == "__main__":
    main()
