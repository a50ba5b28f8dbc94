"""A rig's guest: how it behaves, and how libvirt and its kernel are told so."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

AGENT_PORT = "org.qemu.guest_agent.0"
EMULATOR = "/usr/bin/qemu-system-x86_64"

DOMAIN = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{folder}/vmlinuz</kernel>
    <initrd>{folder}/initrd.gz</initrd>
    <cmdline>{cmdline}</cmdline>
  </os>
  <features>{acpi}<tcg><tb-cache unit='MiB'>32</tb-cache></tcg></features>
  <on_poweroff>{on_poweroff}</on_poweroff>
  <on_crash>{on_crash}</on_crash>
  <devices>
    <emulator>{emulator}</emulator>
    <serial type='file'><source path='{folder}/console/{name}.log' append='on'/></serial>
    <panic model='isa'/>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    {devices}
  </devices>
</domain>
"""
CHANNEL = f"<channel type='unix'><target type='virtio' name='{AGENT_PORT}'/></channel>"
DISK = """<disk type='file'><driver name='qemu' type='qcow2'/><source file='{path}'/>
    <target dev='vda' bus='virtio'/></disk>"""


@dataclass(frozen=True, slots=True)
class Guest:
    """One guest. Delays are in seconds; `memory` in MiB, of which it boots with 80.

    `agent`: "on" answers; "off" is none, and no port for it; "hang" takes the port and never answers;
    "refuse" answers, but knows no shutdown; "ignore" accepts a shutdown and does nothing.
    `acpi` is whether the guest listens to the power button, `acpi_feature` whether its machine has one.
    `shutdown_delay` is how long it takes from being asked, in either way, until it is off;
    `boot_delay` how much longer than it needs until it hears anything.
    """

    name: str
    agent: Literal["on", "off", "hang", "refuse", "ignore"] = "on"
    acpi: bool = True
    shutdown_delay: float = 0
    boot_delay: float = 0
    crash_on: Literal["", "agent", "power_button"] = ""
    memory: int = 128
    on_poweroff: Literal["destroy", "restart", "preserve"] = "destroy"
    on_crash: Literal["destroy", "restart", "preserve"] = "destroy"
    acpi_feature: bool = True
    disk: bool = False

    def xml(self, folder: Path) -> str:
        """Its domain. `folder` has the image, `console/` and its disk, `NAME.qcow2`."""
        channel = "" if self.agent == "off" else CHANNEL
        disk = DISK.format(path=folder / f"{self.name}.qcow2") if self.disk else ""
        return DOMAIN.format(
            name=escape(self.name),
            memory=self.memory,
            folder=folder,
            cmdline=escape(" ".join(self._words())),
            acpi="<acpi/>" if self.acpi_feature else "",
            on_poweroff=self.on_poweroff,
            on_crash=self.on_crash,
            emulator=EMULATOR,
            devices=channel + disk,
        )

    def _words(self) -> Iterator[str]:
        # The first four are for the kernel, and make it quick; the others it hands to the guest's init.
        yield "console=ttyS0 quiet panic=-1 mitigations=off"
        yield f'name="{self.name}" agent={self.agent}'
        yield f"power_button={'on' if self.acpi else 'off'}"
        yield f"boot_delay={self.boot_delay} shutdown_delay={self.shutdown_delay}"
        yield f"crash_on={self.crash_on}"
