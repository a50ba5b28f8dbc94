"""What the libvirt provider can be told beyond what every provider can."""

from pydantic import Field

from providers.core.settings import Settings


class LibvirtSettings(Settings):
    """One libvirt connection URI (https://libvirt.org/uri.html)."""

    uri: str = Field(
        "qemu:///system",
        description="libvirt's URI; over ssh add ?no_tty=1, for nobody is there to type a password",
    )
