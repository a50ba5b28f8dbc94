"""What the service manager is told that started this process: systemd, for units of Type=notify (sd_notify(3))."""

import socket

import structlog

from common.environment import variable

log = structlog.get_logger()


def ready() -> None:
    """Say that this process serves. Where no service manager asked to be told (NOTIFY_SOCKET), nothing is done."""
    address = variable("NOTIFY_SOCKET")
    if not address:
        return
    abstract = address.startswith("@")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(b"READY=1", f"\0{address[1:]}" if abstract else address)
    except OSError as error:
        log.warning("the service manager could not be told that this process serves", error=str(error), socket=address)
