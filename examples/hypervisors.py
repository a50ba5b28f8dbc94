"""Where the four guests of `make run` live: in a libvirtd of our own, or in the sim."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.console import Console

from tests.rigs.guests.domain import Guest
from tests.rigs.sim import console as sim_console

if TYPE_CHECKING:
    from tests.rigs.libvirtd import Libvirtd

SCRIPT = Path(__file__).parent / "sim" / "guests.yaml"


class Hypervisor(Protocol):
    """What `make run` needs of one."""

    @property
    def name(self) -> str:
        """Of the provider that speaks to it."""

    @property
    def arguments(self) -> Sequence[str]:
        """For that provider."""

    def boot(self, names: Sequence[str]) -> None:
        """Start these guests."""

    def console(self, name: str) -> list[str]:
        """What a guest has printed."""


class _Libvirt:
    name = "libvirt"

    def __init__(self, rig: "Libvirtd") -> None:
        self._rig = rig
        self.arguments = ("--uri", rig.uri)

    def boot(self, names: Sequence[str]) -> None:
        guests = {
            "web": Guest("web", shutdown_delay=2),
            "legacy": Guest("legacy", agent="off", shutdown_delay=1),
            "deaf": Guest("deaf", agent="off", acpi=False),
            "broken": Guest("broken", shutdown_delay=1),
        }
        for name in names:
            self._rig.define(guests[name], start=True)
        for name in names:
            self._rig.wait_ready(name)

    def console(self, name: str) -> list[str]:
        return self._rig.console(name).splitlines()


@contextlib.contextmanager
def libvirt(console: Console) -> Iterator[Hypervisor]:
    """Real guests: QEMU under a private libvirtd, as an ordinary user."""
    from tests.rigs.libvirtd import Libvirtd  # noqa: PLC0415 - the sim must run where no libvirt can be had

    with Libvirtd() as rig:
        console.print("libvirtd    our own, in session mode; QEMU needs no KVM")
        yield _Libvirt(rig)


class _Sim:
    name = "sim"

    def __init__(self, world: Path) -> None:
        self._world = world
        self.arguments = ("--world", str(world), "--script", str(SCRIPT))

    def boot(self, names: Sequence[str]) -> None:
        """They run from the start."""

    def console(self, name: str) -> list[str]:
        return sim_console(self._world, name).splitlines()


@contextlib.contextmanager
def sim(console: Console) -> Iterator[Hypervisor]:
    """Guests that follow `examples/sim/guests.yaml`."""
    with tempfile.TemporaryDirectory(prefix="vmp-") as folder:
        console.print("sim         a hypervisor in memory; its guests follow examples/sim/guests.yaml")
        yield _Sim(Path(folder) / "world.db")
