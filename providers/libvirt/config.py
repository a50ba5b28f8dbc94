"""The libvirt provider's settings beside those of every provider."""

from pydantic import Field

from providers.core.settings import Settings

MOST = 5
"""The calls over one connection that libvirtd carries out at once (max_client_requests); a lane has a connection."""


class LibvirtSettings(Settings):
    """One libvirt connection URI (https://libvirt.org/uri.html).

    The numbers of calls fill libvirtd's twenty workers (max_workers), and none of its callers has more than five. Cuts
    do not count among these: libvirtd has workers of their own for them when all others are taken (prio_workers).
    """

    uri: str = Field(
        "qemu:///system",
        description="libvirt's URI; over ssh add ?no_tty=1, so that it never asks for a password",
    )
    max_reads: int = Field(3, ge=1, le=MOST, description="reads of libvirt that may be under way at once")
    max_asks: int = Field(
        3, ge=1, le=MOST, description="guests that may be asked at once, each by ACPI, by the agent, by its command"
    )
    max_programs: int = Field(2, ge=1, le=MOST, description="calls to programs in guests, and snapshots, at once")
    max_cuts: int = Field(3, ge=1, le=MOST, description="VMs whose power may be cut at once")
    max_saves: int = Field(
        2, ge=1, le=MOST, description="VMs whose memory may be saved at once; each holds a worker until it is on disk"
    )
    max_starts: int = Field(2, ge=1, le=MOST, description="VMs that may be started at once")
    max_slow: int = Field(
        0, ge=0, le=0, description="0: what hangs holds a worker of libvirtd, so there is none beside"
    )
