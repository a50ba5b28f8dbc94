"""The libvirt provider's settings beside those of every provider."""

from pydantic import Field

from providers.core.settings import Settings


class LibvirtSettings(Settings):
    """One libvirt connection URI (https://libvirt.org/uri.html)."""

    uri: str = Field(
        "qemu:///system",
        description="libvirt's URI; over ssh add ?no_tty=1, so that it never asks for a password",
    )
