"""Whether something listens at a port of the VM, by its own addresses and no others."""

import asyncio

from providers.core.addresses import CONNECT_TIME, NO_ADDRESS, own_addresses
from providers.core.errors import CommandFailed
from providers.core.model import TcpHook
from providers.core.run import Run


async def connect(run: Run, hook: TcpHook) -> None:
    """Return when one of the VM's addresses has taken a connection, which is closed again.

    Raises:
        CommandFailed: none has, or the VM has none that may be called.
    """
    await run.look()  # the addresses as they are now
    addresses = await own_addresses(run)
    if not addresses:
        raise CommandFailed(NO_ADDRESS)
    for address in addresses:
        if await _takes(address, hook.port):
            return
    raise CommandFailed(f"Nothing takes a connection at port {hook.port} of {', '.join(addresses)}.")


async def _takes(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(CONNECT_TIME):
            _, writer = await asyncio.open_connection(address, port)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    return True
