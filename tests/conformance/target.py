"""What a server under test is: its address and the VMs there whose behaviour is known."""

from pathlib import Path
from typing import Self

import grpc
import yaml
from pydantic import BaseModel, ConfigDict, Field


class _Known(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Commands(_Known):
    """Programs for exec hooks in the guest of the role `agent`."""

    succeeds: list[str] = ["/bin/echo", "konformität ✓"]
    succeeds_output: str = "konformität ✓"
    fails: list[str] = ["/bin/sh", "-c", "exit 3"]
    fails_exit_code: int = 3
    hangs: list[str] = ["/bin/sleep", "300"]
    """Runs for longer than any grace period here."""


class Roles(_Known):
    """The names (or ids) of VMs that behave as their role says; one without a VM skips its tests.

    No two roles may share a VM, except `snapshot` and `unicode`, which only add a claim to one.
    """

    agent: str | None = None
    """Goes down when its agent asks, or the power button where the provider has one; exec hooks work in it."""
    acpi: str | None = None
    """Goes down when the power button is pressed; it has no agent."""
    deaf: str | None = None
    """A signal reaches it and it does nothing."""
    unreachable: str | None = None
    """No signal reaches it, and its forecast says so."""
    slow: str | None = None
    """As `agent`, but it goes down `slow_seconds` after it was asked."""
    plain: str | None = None
    """Can be switched on and off; what it hears is not known."""
    spare: str | None = None
    """Is there to be off."""
    duplicate: str | None = None
    """A name that several VMs bear."""
    template: str | None = None
    """Takes no operations at all."""
    snapshot: str | None = None
    """Can be snapshotted while it runs."""
    unicode: str | None = None
    """Its name is not ASCII."""


class Known(_Known):
    """The file that `--vms` names."""

    vms: Roles = Field(default_factory=Roles)
    commands: Commands = Field(default_factory=Commands)
    scale: float = Field(1.0, gt=0)
    """Short grace periods are multiplied by it: 1 suits guests on slow hardware, 0.1 a simulation."""
    tolerance_seconds: float = Field(4.0, gt=0)
    """How long a hard power off may take until the verdict."""
    slow_seconds: float = Field(5.0, gt=0)
    """How long `slow` takes to go down, at least."""
    patience_seconds: float = Field(90.0, gt=0)
    """The longest that any single wait may take, a guest's boot included."""

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read the file; pydantic's ValidationError names what is wrong in it."""
        return cls.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))


class Target(_Known):
    """A server under test. Without `tls_ca` the channel is not encrypted."""

    address: str
    known: Known
    log: Path | None = None
    """What the server prints, where it is known; failed tests show their part of it."""
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def channel(self) -> grpc.aio.Channel:
        """A connection of its own."""
        if self.tls_ca is None:
            return grpc.aio.insecure_channel(self.address)
        ca, key, certificate = (
            file.read_bytes() if file else None for file in (self.tls_ca, self.tls_key, self.tls_cert)
        )
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        return grpc.aio.secure_channel(self.address, credentials)

    def seconds(self, seconds: float) -> float:
        """A short grace period as it suits this target."""
        return seconds * self.known.scale
