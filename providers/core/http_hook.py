"""HTTP hooks: a GET to the VM's own addresses, or to hosts that the operator allows, and to nothing else.

A provider sits close to the hypervisor and its secrets, so a hook must not make it fetch just anything
(server-side request forgery). Redirects are not followed, and a name is resolved and checked in one go. A URL without a
host, as in http://:8080/drain, is that of the VM: its addresses are tried in turn until one takes the connection.
"""

import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from providers.core.addresses import CONNECT_TIME, NO_ADDRESS, own_addresses
from providers.core.errors import CommandFailed
from providers.core.model import HttpGetHook
from providers.core.run import Run

HEAD_BYTES = 64 << 10
"""So much of an answer is read: its status is all that counts. An endless answer, of `100 Continue` too, would else
take the loop's turns for as long as it comes."""
HEAD_TIME = 300.0
"""Seconds until the answer's status must have come; the hook's own timeout may be shorter."""


class _NotReached(CommandFailed):
    """No connection was made, so that nothing was sent."""


class _HeadOnly(ResponseHandler):
    """Reads HEAD_BYTES of a connection and closes it."""

    _left = HEAD_BYTES

    def data_received(self, data: bytes) -> None:
        kept, self._left = data[: self._left], self._left - len(data)
        if kept:
            super().data_received(kept)
        if self._left <= 0 and self.transport is not None:
            self.transport.abort()


class _Connector(aiohttp.TCPConnector):
    """Makes connections of that kind."""

    def __init__(self, resolver: AbstractResolver) -> None:
        super().__init__(resolver=resolver, use_dns_cache=False, force_close=True)
        # aiohttp has no public setting for this; the test of an endless answer fails if the attribute goes away
        self._factory = partial(_HeadOnly, loop=self._loop)  # type: ignore[assignment]


async def get(run: Run, hook: HttpGetHook) -> int:
    """Call the hook's URL; return the HTTP status.

    Raises:
        CommandFailed: the host is not allowed, cannot be reached, or the headers were lost in a restart.
    """
    if set(hook.header_names) - set(hook.headers):
        raise CommandFailed("Its headers are secret and did not survive the provider's restart; it was not called.")
    await run.look()  # the addresses as they are now
    addresses = await own_addresses(run)
    resolver = AllowedResolver(run.settings.http_hook_hosts, addresses)
    if is_without_host(hook.url):
        return await _first_of(hook, addresses, resolver)
    host = as_address(_host(hook.url))
    if _is_network(host) and not resolver.allows("", host):
        raise CommandFailed(resolver.refusal(host))
    return await _request(hook, hook.url, resolver)


async def _first_of(hook: HttpGetHook, addresses: Sequence[str], resolver: AbstractResolver) -> int:
    """What the first of the VM's addresses that takes a connection answers."""
    if not addresses:
        raise CommandFailed(NO_ADDRESS)
    for address in addresses[:-1]:
        with suppress(_NotReached):
            return await _request(hook, _with_host(hook.url, address), resolver, CONNECT_TIME)
    return await _request(hook, _with_host(hook.url, addresses[-1]), resolver)


async def _request(hook: HttpGetHook, url: str, resolver: AbstractResolver, connect_time: float | None = None) -> int:
    timeout = aiohttp.ClientTimeout(total=HEAD_TIME, sock_connect=connect_time)
    try:
        async with aiohttp.ClientSession(connector=_Connector(resolver), trust_env=False, timeout=timeout) as session:
            # aiohttp makes a GET again if the server hangs up, without a public setting; a hook runs at most once
            session._retry_connection = False
            async with session.get(url, headers=hook.headers, allow_redirects=False) as response:
                return response.status
    except (aiohttp.ClientError, OSError) as error:
        reached = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        kind = CommandFailed if reached else _NotReached
        raise kind(f"The hook's URL could not be called ({type(error).__name__}).") from error


class AllowedResolver(AbstractResolver):
    """Resolves names, and drops every address that a hook may not call."""

    def __init__(self, allowed: Sequence[str], addresses: Sequence[str]) -> None:
        self._hosts = {host for host in allowed if not _is_network(host)}
        self._networks = [ip_network(host, strict=False) for host in (*allowed, *addresses) if _is_network(host)]
        self._system = aiohttp.ThreadedResolver()

    def allows(self, host: str, address: str) -> bool:
        return host in self._hosts or any(ip_address(address) in network for network in self._networks)

    def refusal(self, host: str) -> str:
        return f"{host} is not an address of this VM; the provider's operator can allow it (VMPOWER_HTTP_HOOK_HOSTS)."

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The allowed addresses of a name.

        Raises:
            OSError: none is.
        """
        found = await self._system.resolve(host, port, family)
        allowed = [result for result in found if self.allows(host, result["host"])]
        if not allowed:
            raise CommandFailed(self.refusal(host))
        return allowed

    async def close(self) -> None:
        await self._system.close()


def is_without_host(url: str) -> bool:
    """Whether it is a URL of the VM, whatever its address is: http://:8080/drain."""
    return urlsplit(url).netloc.startswith(":")


def _with_host(url: str, address: str) -> str:
    parts = urlsplit(url)
    host = f"[{address}]" if ":" in address else address
    return parts._replace(netloc=host + parts.netloc).geturl()


def _host(url: str) -> str:
    """The host as aiohttp itself reads it: another parser might see a name where aiohttp sees an address."""
    try:
        return URL(url).host or ""
    except ValueError as error:
        raise CommandFailed("The hook's URL could not be read; the caller mends it.") from error


def as_address(host: str) -> str:
    """A host that the system's resolver reads as an IPv4 address (2130706433, 0x7f.1, 0177.0.0.1; inet_aton(3)), as
    that address; any other as it is."""
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, ValueError):
        return host


def _is_network(host: str) -> bool:
    try:
        ip_network(host, strict=False)
    except ValueError:
        return False
    return True
