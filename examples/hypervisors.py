"""Where the four guests of `make run` live: in a libvirtd of our own, or in the sim."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.rigs.guests.domain import Guest
from tests.rigs.sim import console as sim_console

SCRIPT = Path(__file__).parent / "sim" / "guests.yaml"
LIBVIRT_GUESTS = (
    Guest("web", shutdown_delay=2),
    Guest("legacy", agent="off", shutdown_delay=1),
    Guest("deaf", agent="off", acpi=False),
    Guest("broken", shutdown_delay=1),
)
"""The sim's script has guests of the same names."""


@dataclass(frozen=True, slots=True)
class Hypervisor:
    """What `make run` needs of one: its provider's name and flags, what starts the guests, what each has printed."""

    name: str
    arguments: tuple[str, ...]
    boot: Callable[[], None]
    console: Callable[[str], str]


@contextlib.contextmanager
def libvirt(console: Console) -> Iterator[Hypervisor]:
    """Real guests: QEMU under a private libvirtd, as an ordinary user."""
    from tests.rigs.libvirtd import Libvirtd  # noqa: PLC0415 - the sim must run where no libvirt can be had

    with Libvirtd() as rig:

        def boot() -> None:
            for guest in LIBVIRT_GUESTS:
                rig.define(guest, start=True)
            for guest in LIBVIRT_GUESTS:
                rig.wait_ready(guest.name)

        console.print("libvirtd    our own, in session mode; QEMU needs no KVM")
        yield Hypervisor("libvirt", ("--uri", rig.uri), boot, rig.console)


@contextlib.contextmanager
def sim(console: Console) -> Iterator[Hypervisor]:
    """Guests that follow `examples/sim/guests.yaml`, and run from the start."""
    with tempfile.TemporaryDirectory(prefix="vmp-") as folder:
        world = Path(folder) / "world.db"
        console.print("sim         a hypervisor in memory; its guests follow examples/sim/guests.yaml")
        flags = ("--world", str(world), "--script", str(SCRIPT))
        yield Hypervisor("sim", flags, lambda: None, partial(sim_console, world))
